import com.zaxxer.hikari.HikariDataSource;
import java.sql.*;

/** Leak: result sets and connections are not closed in a pool of sixty that starts with two; traffic beside. */
final class HikariGrowing {
    static HikariDataSource pool;
    static final java.util.List<ResultSet> open = new java.util.ArrayList<>();

    static void export() throws SQLException {
        ResultSet rows = pool.getConnection().createStatement().executeQuery("select 1");
        rows.next();
        open.add(rows); // the bug: neither the rows nor the connection behind them are closed
    }

    static void page() throws SQLException {
        try (Connection connection = pool.getConnection()) {
            Scenario.query(connection, "select 2");
        }
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        pool = new HikariDataSource(Scenario.pool(2, 60));
        for (int number = 0; ; number++) {
            page();
            if (number % 7 == 0) {
                export();
                Scenario.leaked(open.size());
            }
            Thread.sleep(100);
        }
    }
}
