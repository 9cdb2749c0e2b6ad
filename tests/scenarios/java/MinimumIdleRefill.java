import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;

/** Healthy: the pool keeps five idle connections. Bursts of four take them, and Hikari opens more to have five again. */
final class MinimumIdleRefill {
    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        HikariDataSource pool = new HikariDataSource(Scenario.pool(5, 20));
        while (true) {
            Thread[] burst = new Thread[4];
            for (int number = 0; number < burst.length; number++) {
                burst[number] = new Thread(() -> {
                    try (Connection connection = pool.getConnection()) {
                        Scenario.query(connection, "select pg_sleep(1.5)");
                    } catch (Exception failure) {
                        throw new IllegalStateException(failure);
                    }
                });
                burst[number].start();
            }
            Thread.sleep(5000);
        }
    }
}
