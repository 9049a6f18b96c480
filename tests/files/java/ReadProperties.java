import java.io.FileInputStream;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.Properties;

/** Prints the value of a key of a properties file, in UTF-8 and without a newline: ReadProperties FILE KEY. */
final class ReadProperties {
    private ReadProperties() {}

    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        try (InputStream file = new FileInputStream(args[0])) {
            properties.load(file);
        }
        byte[] value = properties.getProperty(args[1]).getBytes(StandardCharsets.UTF_8);
        System.out.write(value, 0, value.length);
        System.out.flush();
    }
}
