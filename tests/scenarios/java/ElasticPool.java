import com.zaxxer.hikari.*;
import java.sql.Connection;

/** Healthy: a burst grows the pool to sixteen; after it, idle connections are closed late (ten seconds and more). */
final class ElasticPool {
    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        HikariConfig config = Scenario.pool(2, 16);
        config.setIdleTimeout(10_000);
        HikariDataSource pool = new HikariDataSource(config);
        for (int number = 0; ; number++) {
            boolean burst = number % 20 < 3;
            for (int client = 0; client < (burst ? 16 : 1); client++) {
                new Thread(() -> {
                    try (Connection connection = pool.getConnection()) {
                        Scenario.query(connection, "select pg_sleep(0.3)");
                    } catch (Exception failure) {
                        throw new IllegalStateException(failure);
                    }
                }).start();
            }
            Thread.sleep(1000);
        }
    }
}
