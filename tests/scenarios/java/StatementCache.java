import com.zaxxer.hikari.*;
import java.sql.*;
import java.util.*;

/** Leak: a cache keeps a prepared statement for each report, and with it the pool's connection. Requests go on. */
final class StatementCache {
    static final Map<Integer, PreparedStatement> cache = new HashMap<>();

    static void report(HikariDataSource pool, int number) throws SQLException {
        Connection connection = pool.getConnection(); // the bug: the cache keeps it
        PreparedStatement statement = connection.prepareStatement("select " + number);
        statement.executeQuery().next();
        cache.put(number, statement);
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        try (HikariDataSource pool = new HikariDataSource(Scenario.pool(2, 60))) {
            for (int number = 1; ; number++) {
                for (int request = 0; request < 4; request++) {
                    try (Connection connection = pool.getConnection()) {
                        Scenario.query(connection, "select 1");
                    }
                    Thread.sleep(225);
                }
                report(pool, number);
                Scenario.leaked(cache.size());
            }
        }
    }
}
