// The driver of Java through the gateway. Arguments: host, port, user, password, root certificate, whether function calls are
// allowed, and, in place of the password, a certificate and its key.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

class Drivers {
    public static void main(String[] arguments) throws Exception {
        Properties properties = new Properties();
        properties.setProperty("user", arguments[2]);
        if (arguments.length > 6) {
            properties.setProperty("sslcert", arguments[6]);
            properties.setProperty("sslkey", arguments[7]);
        } else {
            properties.setProperty("password", arguments[3]);
        }
        properties.setProperty("sslmode", "verify-full");
        properties.setProperty("sslrootcert", arguments[4]);
        properties.setProperty("ApplicationName", "a tool");
        String url = "jdbc:postgresql://" + arguments[0] + ":" + arguments[1] + "/orders";
        try (Connection connection = DriverManager.getConnection(url, properties)) {
            everything(connection);
            largeObjects(connection, arguments[5].equals("calls"));
        }
        System.out.println("all is well");
    }

    static void everything(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.execute("CREATE TABLE brewed (n BIGINT PRIMARY KEY, t TEXT, b BYTEA, at TIMESTAMPTZ)");
        }
        connection.setAutoCommit(false);
        try (PreparedStatement put = connection.prepareStatement("INSERT INTO brewed VALUES (?, ?, ?, ?)")) {
            for (int n = 0; n < 1000; n++) {
                put.setLong(1, n);
                put.setString(2, "row " + n);
                put.setBytes(3, new byte[] {0, (byte) 255});
                put.setTimestamp(4, new Timestamp(1_000_000_000_000L + n));
                put.addBatch();
            }
            check(put.executeBatch().length == 1000, "a batch");
        }
        connection.commit();
        // A portal that is read in parts.
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(10);
            long sum = 0;
            try (ResultSet rows = statement.executeQuery("SELECT n FROM brewed")) {
                while (rows.next()) {
                    sum += rows.getLong(1);
                }
            }
            check(sum == 499500, "a cursor: " + sum);
        }
        // Named on the server after five times, and in binary then.
        try (PreparedStatement one = connection.prepareStatement("SELECT t, b, at FROM brewed WHERE n = ?")) {
            for (int n = 0; n < 20; n++) {
                one.setLong(1, n);
                try (ResultSet row = one.executeQuery()) {
                    check(row.next() && row.getString(1).equals("row " + n) && row.getBytes(2).length == 2, "a row");
                    check(row.getTimestamp(3).getTime() == 1_000_000_000_000L + n, "a time");
                }
            }
        }
        // An error, a savepoint, and on.
        var savepoint = connection.setSavepoint();
        fails(connection, "SELECT 1 / 0", "22012");
        connection.rollback(savepoint);
        PGConnection own = connection.unwrap(PGConnection.class);
        own.getCopyAPI().copyIn("COPY brewed (n, t) FROM STDIN", new StringReader("5000\tcopied\n5001\tcopied\n"));
        StringWriter copied = new StringWriter();
        own.getCopyAPI().copyOut("COPY (SELECT n FROM brewed WHERE t = 'copied' ORDER BY n) TO STDOUT", copied);
        check(copied.toString().equals("5000\n5001\n"), "copies: " + copied);
        connection.commit();
        connection.setAutoCommit(true);
        // Cancelled from another thread, and by its own limit.
        try (Statement slow = connection.createStatement()) {
            Thread other = new Thread(() -> {
                try {
                    Thread.sleep(500);
                    slow.cancel();
                } catch (Exception error) {
                    error.printStackTrace();
                }
            });
            other.start();
            try {
                slow.execute("SELECT pg_sleep(30)");
                throw new IllegalStateException("it was not cancelled");
            } catch (SQLException error) {
                check(error.getSQLState().equals("57014"), error.toString());
            }
            other.join();
            slow.setQueryTimeout(1);
            try {
                slow.execute("SELECT pg_sleep(31)");
                throw new IllegalStateException("its limit did not hold");
            } catch (SQLException error) {
                check(error.getSQLState().equals("57014"), error.toString());
            }
        }
        try (Statement statement = connection.createStatement()) {
            statement.execute("LISTEN bell");
            statement.execute("NOTIFY bell, 'rings'");
            var notes = own.getNotifications(5000);
            check(notes != null && notes.length == 1 && notes[0].getParameter().equals("rings"), "a note");
        }
        var meta = connection.getMetaData();
        try (ResultSet tables = meta.getTables(null, "public", "brewed", null)) {
            check(tables.next(), "what graphical tools ask");
        }
    }

    // The driver reads and writes them by function calls, which name no statement.
    static void largeObjects(Connection connection, boolean allowed) throws Exception {
        connection.setAutoCommit(false);
        LargeObjectManager manager = connection.unwrap(PGConnection.class).getLargeObjectAPI();
        try {
            long id = manager.createLO();
            try (LargeObject object = manager.open(id, LargeObjectManager.READWRITE)) {
                object.write(new byte[200_000]);
                check(object.size() == 200_000, "a large object");
            }
            connection.commit();
            check(allowed, "a function call was let through");
        } catch (SQLException error) {
            connection.rollback();
            check(!allowed && error.getSQLState().equals("42501"), error.toString());
        }
        connection.setAutoCommit(true);
        try (Statement statement = connection.createStatement()) {
            check(statement.execute("SELECT 1"), "and on");
        }
    }

    static void fails(Connection connection, String sql, String state) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
            throw new IllegalStateException("no error came");
        } catch (SQLException error) {
            check(error.getSQLState().equals(state), error.toString());
        }
    }

    static void check(boolean good, String what) {
        if (!good) {
            throw new IllegalStateException(what);
        }
    }
}
