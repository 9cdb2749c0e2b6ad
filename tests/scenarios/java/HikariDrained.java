import com.zaxxer.hikari.HikariDataSource;
import java.sql.*;

/** Leak (unreturned): a pool of ten; an early return keeps a connection, until none is left and all callers wait. */
final class HikariDrained {
    static HikariDataSource pool;
    static int leaked;

    static int find(int number) throws SQLException {
        Connection connection = pool.getConnection();
        ResultSet rows = connection.createStatement().executeQuery("select 1 where " + number % 5 + " <> 0");
        if (!rows.next()) {
            Scenario.leaked(++leaked);
            return -1; // the bug
        }
        int found = rows.getInt(1);
        connection.close();
        return found;
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        pool = new HikariDataSource(Scenario.pool(10, 10));
        for (int number = 0; ; number++) {
            find(number);
            Thread.sleep(150);
        }
    }
}
