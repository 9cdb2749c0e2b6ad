import java.sql.*;
import java.util.concurrent.*;

/**
 * Healthy: a connection in a thread-local of each thread of a pool that grows from two to twelve threads when work comes
 * and lets a thread go after three idle seconds; the thread closes its connection as it ends.
 */
final class ThreadsShrink {
    static final ThreadLocal<Connection> OWN = new ThreadLocal<>();

    static Thread worker(Runnable loop) {
        return new Thread(() -> {
            try {
                loop.run();
            } finally {
                close(OWN.get());
            }
        });
    }

    static void close(Connection connection) {
        try {
            if (connection != null) {
                connection.close();
            }
        } catch (SQLException error) {
            System.err.println(error);
        }
    }

    static void job() {
        try {
            if (OWN.get() == null) {
                OWN.set(DriverManager.getConnection(Scenario.URL));
            }
            Scenario.query(OWN.get(), "select pg_sleep(0.3)");
        } catch (SQLException error) {
            System.err.println(error);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        ThreadPoolExecutor threads = new ThreadPoolExecutor(
                2, 12, 3, TimeUnit.SECONDS, new SynchronousQueue<>(), ThreadsShrink::worker,
                new ThreadPoolExecutor.CallerRunsPolicy());
        // A wave of seven seconds: more and more for three, then a trickle.
        for (int tick = 0; ; tick++) {
            int now = tick % 70;
            int jobs = now < 30 ? (now % 3 == 0 ? 1 + now / 3 : 0) : (now % 5 == 0 ? 1 : 0);
            for (int number = 0; number < jobs; number++) {
                threads.execute(ThreadsShrink::job);
            }
            Thread.sleep(100);
        }
    }
}
