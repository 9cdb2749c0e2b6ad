import com.zaxxer.hikari.HikariDataSource;
import java.sql.*;
import java.util.*;

/**
 * Leak in one of two pools: orders are served properly; an audit that finds something wrong throws before it closes its
 * connection. Both pools are HikariCP's, with the same database and user.
 */
final class TwoDataSources {
    static HikariDataSource orders;
    static HikariDataSource audits;
    static final List<Statement> findings = new ArrayList<>();

    static void order(int number) throws SQLException {
        try (Connection connection = orders.getConnection()) {
            Scenario.query(connection, "select " + number);
        }
    }

    static void audit(int number) throws SQLException {
        Connection connection = audits.getConnection();
        Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("select " + number % 3);
        rows.next();
        if (rows.getInt(1) == 2) {
            findings.add(statement);
            throw new IllegalStateException("an odd sum"); // the bug: nothing is closed
        }
        connection.close();
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        orders = new HikariDataSource(Scenario.pool(5, 10));
        audits = new HikariDataSource(Scenario.pool(1, 50));
        for (int number = 0; ; number++) {
            order(number);
            if (number % 5 == 0) {
                try {
                    audit(number / 5);
                } catch (IllegalStateException expected) {
                    Scenario.leaked(findings.size());
                }
            }
            Thread.sleep(60);
        }
    }
}
