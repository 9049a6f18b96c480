import java.io.FileInputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.Properties;

/** Connects as a file says whose `url` is the address and all else a property, and prints one value: Query FILE SQL. */
final class Query {
    private Query() {}

    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        try (InputStream file = new FileInputStream(args[0])) {
            properties.load(file);
        }
        String url = (String) properties.remove("url");
        try (Connection connection = DriverManager.getConnection(url, properties);
                Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery(args[1])) {
            rows.next();
            new PrintStream(System.out, true, "UTF-8").println(rows.getString(1));
        }
    }
}
