import java.sql.*;
import java.util.concurrent.*;

/** Healthy: eight jobs with a connection each, on a scheduler of three threads; each first runs half a second after the
 * one before, and then each twelve seconds. */
final class ScheduledJobs {
    static final class Job implements Runnable {
        private Connection connection;

        @Override
        public void run() {
            try {
                if (connection == null) {
                    connection = DriverManager.getConnection(Scenario.URL);
                }
                Scenario.query(connection, "select 1");
            } catch (SQLException failure) {
                throw new IllegalStateException(failure);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        ScheduledExecutorService scheduler = Executors.newScheduledThreadPool(3);
        for (int number = 0; number < 8; number++) {
            scheduler.scheduleAtFixedRate(new Job(), 500L * number, 12_000, TimeUnit.MILLISECONDS);
        }
        Thread.sleep(Long.MAX_VALUE);
    }
}
