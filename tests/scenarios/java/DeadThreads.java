import java.sql.*;
import java.util.*;

/** Leak: a connection per thread, and a thread per request: the threads end, a registry keeps the connections. */
final class DeadThreads {
    static final List<Connection> registry = Collections.synchronizedList(new ArrayList<>());
    static final ThreadLocal<Connection> mine = ThreadLocal.withInitial(DeadThreads::connect);

    static Connection connect() {
        try {
            Connection connection = DriverManager.getConnection(Scenario.URL);
            registry.add(connection); // to close all at shutdown
            return connection;
        } catch (SQLException failure) {
            throw new IllegalStateException(failure);
        }
    }

    public static void main(String[] arguments) throws Exception {
        Scenario.go();
        while (true) {
            Thread request = new Thread(() -> {
                try {
                    Scenario.query(mine.get(), "select 1");
                } catch (SQLException failure) {
                    throw new IllegalStateException(failure);
                }
            });
            request.start();
            request.join();
            Scenario.leaked(registry.size());
            Thread.sleep(900);
        }
    }
}
