import com.mchange.v2.c3p0.ComboPooledDataSource;
import java.sql.Connection;
import java.util.concurrent.*;
import java.util.logging.*;

/**
 * Healthy: c3p0 acquires three at a time, from threads of its own, tests idle connections each two seconds and lets go
 * what is in excess of its minimum after three. The load comes in waves.
 */
final class C3p0Pool {
    static final Logger LOG = Logger.getLogger("com.mchange");
    static ComboPooledDataSource pool;

    static void request(double seconds) {
        try (Connection connection = pool.getConnection()) {
            Scenario.query(connection, "select pg_sleep(" + seconds + ")");
        } catch (java.sql.SQLException error) {
            System.err.println(error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        LOG.setLevel(Level.WARNING);
        Scenario.go();
        pool = new ComboPooledDataSource();
        pool.setJdbcUrl(Scenario.URL);
        pool.setMinPoolSize(3);
        pool.setInitialPoolSize(3);
        pool.setAcquireIncrement(3);
        pool.setMaxPoolSize(15);
        pool.setMaxIdleTimeExcessConnections(3);
        pool.setIdleConnectionTestPeriod(2);
        pool.setPreferredTestQuery("select 1");
        ExecutorService requests = Executors.newCachedThreadPool();
        for (int tick = 0; ; tick++) {
            boolean wave = tick % 80 < 20;
            if (wave || tick % 4 == 0) {
                requests.submit(() -> request(wave ? 0.8 : 0.02));
            }
            Thread.sleep(100);
        }
    }
}
