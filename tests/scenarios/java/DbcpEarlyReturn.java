import java.sql.*;
import java.util.*;
import org.apache.commons.dbcp2.BasicDataSource;

/**
 * Leak: DBCP with an evictor that tests what is idle. A search that finds nothing returns early: its statement is closed,
 * its connection is not.
 */
final class DbcpEarlyReturn {
    static final BasicDataSource POOL = new BasicDataSource();
    static final List<Connection> lost = new ArrayList<>();

    static boolean find(int number) throws SQLException {
        Connection connection = POOL.getConnection();
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("select 1 where " + number + " % 4 > 0")) {
            if (!rows.next()) {
                lost.add(connection);
                return false; // the bug
            }
        }
        connection.close();
        return true;
    }

    public static void main(String[] arguments) throws Exception {
        POOL.setUrl(Scenario.URL);
        POOL.setInitialSize(2);
        POOL.setMinIdle(2);
        POOL.setMaxIdle(6);
        POOL.setMaxTotal(60);
        POOL.setTestWhileIdle(true);
        POOL.setValidationQuery("select 1");
        POOL.setTimeBetweenEvictionRunsMillis(1000);
        Scenario.go();
        for (int number = 0; ; number++) {
            if (!find(number)) {
                Scenario.leaked(lost.size());
            }
            Thread.sleep(200);
        }
    }
}
