import java.sql.*;

/** Healthy, and hard: eight threads come up a second apart, each with its connection; then only the first one works,
 * the others wait for the evening's batch. */
final class ThreadsThatRest {
    static void live(int number) {
        try (Connection connection = DriverManager.getConnection(Scenario.URL)) {
            while (true) {
                Scenario.query(connection, "select " + number);
                Thread.sleep(number == 0 ? 200 : 15_000);
            }
        } catch (Exception failure) {
            throw new IllegalStateException(failure);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        for (int number = 0; number < 8; number++) {
            int mine = number;
            new Thread(() -> live(mine)).start();
            Thread.sleep(1000);
        }
    }
}
