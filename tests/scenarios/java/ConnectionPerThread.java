import java.sql.*;
import java.util.concurrent.*;

/** Healthy: a connection per thread. The thread pool grows by one a second to its maximum of eight, and then rests:
 * two jobs a second for whichever thread is free. */
final class ConnectionPerThread {
    static final ThreadLocal<Connection> mine = ThreadLocal.withInitial(() -> {
        try {
            return DriverManager.getConnection(Scenario.URL);
        } catch (SQLException failure) {
            throw new IllegalStateException(failure);
        }
    });

    static void job() {
        try {
            Scenario.query(mine.get(), "select 1");
        } catch (SQLException failure) {
            throw new IllegalStateException(failure);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        ExecutorService threads = Executors.newFixedThreadPool(8);
        for (int number = 0; ; number++) {
            threads.submit(ConnectionPerThread::job); // a fixed pool starts a new thread for each of the first eight
            Thread.sleep(number < 8 ? 1000 : 500);
        }
    }
}
