import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;

/** Healthy: minimum idle of five, and load that rises by one busy client each two seconds up to eight: the pool
 * opens while some of its own are idle. */
final class MinimumIdleRising {
    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        HikariDataSource pool = new HikariDataSource(Scenario.pool(5, 20));
        for (int number = 0; number < 8; number++) {
            new Thread(() -> {
                while (true) {
                    try (Connection connection = pool.getConnection()) {
                        Scenario.query(connection, "select pg_sleep(0.5)");
                    } catch (Exception failure) {
                        throw new IllegalStateException(failure);
                    }
                }
            }).start();
            Thread.sleep(2000);
        }
    }
}
