import java.sql.*;
import java.util.*;

/**
 * Healthy: a developer's workbench. Each console that is opened has a session of its own, as DataGrip does it: three
 * queries at once, then its owner reads, and comes back to it when all others have been looked at. The tree of objects is
 * read over a short session now and then. One thread does it all.
 */
final class SqlConsoles {
    static Connection session(String name) throws SQLException {
        return DriverManager.getConnection(Scenario.URL + "&ApplicationName=" + name);
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        List<Connection> consoles = new ArrayList<>();
        for (int second = 0; ; second++) {
            if (second % 3 == 0 && consoles.size() < 5) {
                consoles.add(session("console_" + consoles.size()));
                for (int number = 0; number < 3; number++) {
                    Scenario.query(consoles.get(consoles.size() - 1), "select count(*) from pg_class");
                }
            } else if (second % 3 == 1) {
                Scenario.query(consoles.get(second / 3 % consoles.size()), "select " + second);
            }
            if (second % 4 == 2) {
                try (Connection tree = session("introspection")) {
                    Scenario.query(tree, "select relname from pg_class");
                }
            }
            Thread.sleep(1000);
        }
    }
}
