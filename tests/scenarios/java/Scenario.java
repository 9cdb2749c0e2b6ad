import com.zaxxer.hikari.HikariConfig;
import java.io.IOException;

/** What the Java scenarios share: waiting for the word to go, a rhythm, the truth about leaks, where the database is. */
final class Scenario {
    static final String URL = "jdbc:postgresql://127.0.0.1:" + System.getenv("PGPORT") + "/postgres?user=postgres&sslmode=disable";

    static void go() throws IOException {
        System.out.println("READY");
        System.in.read();
    }

    static void leaked(int count) {
        System.out.println("LEAKED " + count + " " + ProcessHandle.current().pid());
    }

    /** Time is compressed: the housekeeper, which refills and shrinks, comes each half second instead of each 30. */
    static HikariConfig pool(int minimumIdle, int maximum) {
        System.setProperty("com.zaxxer.hikari.housekeeping.periodMs", "500");
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(URL);
        config.setMinimumIdle(minimumIdle);
        config.setMaximumPoolSize(maximum);
        return config;
    }

    static void query(java.sql.Connection connection, String sql) throws java.sql.SQLException {
        try (java.sql.Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    private Scenario() {}
}
