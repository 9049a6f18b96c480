import java.io.FileInputStream;
import java.io.InputStream;
import java.io.PrintStream;
import java.net.InetAddress;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSocket;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.common.config.SaslConfigs;
import org.apache.kafka.common.security.JaasContext;
import org.apache.kafka.common.security.ssl.DefaultSslEngineFactory;

/**
 * Reads client.properties as Kafka's own client does: ReadKafka FILE. Shows itself with its key store to a server that
 * trusts its trust store, and prints its address, its protocol, its certificate's name and its login, each with a NUL behind.
 */
final class ReadKafka {
    private ReadKafka() {}

    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        try (InputStream file = new FileInputStream(args[0])) {
            properties.load(file);
        }
        AdminClientConfig config = new AdminClientConfig(properties);
        Map<String, ?> values = config.values();
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        out.print(config.getList("bootstrap.servers") + "\0" + config.getString("security.protocol") + "\0");
        if (values.get("ssl.keystore.location") != null) {
            DefaultSslEngineFactory factory = new DefaultSslEngineFactory();
            factory.configure(values);
            out.print(handshake(factory.sslContext()) + "\0");
        }
        if (config.getString(SaslConfigs.SASL_MECHANISM) != null && properties.containsKey(SaslConfigs.SASL_JAAS_CONFIG)) {
            var login = JaasContext.loadClientContext(values).configurationEntries().get(0);
            out.print(config.getString(SaslConfigs.SASL_MECHANISM) + "\0" + login.getLoginModuleName() + "\0");
            out.print(login.getOptions().get("username") + "\0" + login.getOptions().get("password") + "\0");
        }
    }

    private static String handshake(SSLContext context) throws Exception {
        InetAddress here = InetAddress.getLoopbackAddress();
        try (SSLServerSocket listener = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0, 1, here)) {
            listener.setNeedClientAuth(true);
            CompletableFuture<SSLSession> seen = CompletableFuture.supplyAsync(() -> {
                try (SSLSocket socket = (SSLSocket) listener.accept()) {
                    socket.startHandshake();
                    return socket.getSession();
                } catch (Exception error) {
                    throw new IllegalStateException(error);
                }
            });
            try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(here, listener.getLocalPort())) {
                socket.startHandshake();
                return seen.get().getPeerPrincipal().getName();
            }
        }
    }
}
