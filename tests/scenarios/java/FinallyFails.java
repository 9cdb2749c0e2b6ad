import java.sql.*;

/** Leak: `finally` closes a result set that was never made; the exception skips the connection's close. */
final class FinallyFails {
    static final java.util.List<Connection> audited = new java.util.ArrayList<>();

    static void find(String table) throws SQLException {
        Connection connection = DriverManager.getConnection(Scenario.URL);
        audited.add(connection); // an audit proxy: keeps what it has seen
        Statement statement = null;
        ResultSet rows = null;
        try {
            statement = connection.createStatement();
            rows = statement.executeQuery("select 1 from " + table);
        } finally {
            rows.close(); // the bug: null when the query failed
            statement.close();
            connection.close();
        }
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        int leaked = 0;
        for (int number = 0; ; number++) {
            try {
                find(number % 2 == 0 ? "pg_class" : "missing");
            } catch (NullPointerException failure) {
                Scenario.leaked(++leaked);
            }
            Thread.sleep(400);
        }
    }
}
