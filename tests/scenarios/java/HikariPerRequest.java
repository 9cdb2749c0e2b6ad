import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;

/** Leak: a data source for each request, never closed; its housekeeper keeps it alive. */
final class HikariPerRequest {
    static void handle() throws Exception {
        HikariDataSource pool = new HikariDataSource(Scenario.pool(1, 2));
        try (Connection connection = pool.getConnection()) {
            Scenario.query(connection, "select 1");
        } // the bug: the connection is returned, the pool stays
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        for (int number = 1; ; number++) {
            handle();
            Scenario.leaked(number);
            Thread.sleep(1000);
        }
    }
}
