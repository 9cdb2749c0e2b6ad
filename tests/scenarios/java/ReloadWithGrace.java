import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.util.concurrent.*;

/**
 * Healthy: the configuration is loaded again each six seconds. Requests go to a new pool from then on; the old one rests
 * for four seconds, for requests that may still hold a connection, and is closed.
 */
final class ReloadWithGrace {
    static volatile HikariDataSource pool;

    static void request() {
        try (Connection connection = pool.getConnection()) {
            Scenario.query(connection, "select pg_sleep(0.05)");
        } catch (java.sql.SQLException error) {
            throw new IllegalStateException(error);
        }
    }

    static void reload(ScheduledExecutorService later) {
        HikariDataSource old = pool;
        pool = new HikariDataSource(Scenario.pool(6, 6));
        if (old != null) {
            later.schedule(old::close, 4, TimeUnit.SECONDS);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        ScheduledExecutorService later = Executors.newScheduledThreadPool(2);
        ExecutorService requests = Executors.newFixedThreadPool(4);
        for (int number = 0; ; number++) {
            if (number % 60 == 0) {
                reload(later);
            }
            requests.submit(ReloadWithGrace::request);
            Thread.sleep(100);
        }
    }
}
