import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.FutureTask;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSocket;

/**
 * What an ordinary Java service does with its stores: nothing but the standard javax.net.ssl properties, the
 * default SSLContext, and a certificate wanted from either side.
 *
 * <pre>
 * MutualTls                       server and client in this process, once for each protocol
 * MutualTls --serve PORT [COUNT]  server; ends after COUNT connections, else never
 * MutualTls --connect HOST:PORT   client, once for each protocol
 * </pre>
 *
 * Exit codes: 0 all went well, 1 something failed, 64 not understood.
 */
public final class MutualTls {
    private static final String[] PROTOCOLS = {"TLSv1.2", "TLSv1.3"};
    private static final int TIMEOUT_MILLIS = 60_000;
    private static final int PING = 'p';

    private MutualTls() {}

    public static void main(String[] args) {
        try {
            listStores();
            if (args.length == 0) {
                loopback();
            } else if (args[0].equals("--serve") && (args.length == 2 || args.length == 3)) {
                serve(Integer.parseInt(args[1]), args.length == 3 ? Integer.parseInt(args[2]) : Integer.MAX_VALUE);
            } else if (args[0].equals("--connect") && args.length == 2 && args[1].lastIndexOf(':') > 0) {
                int colon = args[1].lastIndexOf(':');
                connect(args[1].substring(0, colon), Integer.parseInt(args[1].substring(colon + 1)));
            } else if (!Arrays.equals(args, new String[] {"--postgres"})) {
                // The login to PostgreSQL is psql's part of the test; the flag only keeps one command line for both.
                System.err.println("usage: MutualTls [--serve PORT [COUNT] | --connect HOST:PORT]");
                System.exit(64);
            }
        } catch (Throwable failure) {
            System.out.flush();
            failure.printStackTrace();
            System.exit(1);
        }
        // A server thread that still waits for a client must not keep a finished run alive.
        System.exit(0);
    }

    private static void listStores() throws Exception {
        System.out.println("java version=" + System.getProperty("java.version")
            + " vendor=" + System.getProperty("java.vendor"));

        KeyStore trust = load("trust");
        int trusted = 0;
        for (String alias : Collections.list(trust.aliases())) {
            boolean entry = trust.isCertificateEntry(alias);
            trusted += entry ? 1 : 0;
            System.out.println("truststore alias=" + alias + " trustedCertEntry=" + entry
                + " subject=" + subject(trust.getCertificate(alias)));
        }
        System.out.println("truststore type=" + trust.getType() + " entries=" + trust.size() + " trusted=" + trusted);
        // A store whose certificates lack the trusted key usage loads without complaint and trusts no peer.
        require(trusted > 0 && trusted == trust.size(), "the trust store has entries that Java does not trust, or none");

        KeyStore keys = load("key");
        int pairs = 0;
        for (String alias : Collections.list(keys.aliases())) {
            boolean entry = keys.isKeyEntry(alias);
            pairs += entry ? 1 : 0;
            Certificate[] chain = keys.getCertificateChain(alias);
            System.out.println("keystore alias=" + alias + " keyEntry=" + entry
                + " chain=" + (chain == null ? 0 : chain.length)
                + " algorithm=" + keys.getCertificate(alias).getPublicKey().getAlgorithm()
                + " subject=" + subject(keys.getCertificate(alias)));
        }
        System.out.println("keystore type=" + keys.getType() + " entries=" + keys.size() + " keys=" + pairs);
        require(pairs > 0, "the key store has no key");
    }

    private static KeyStore load(String which) throws Exception {
        String prefix = "javax.net.ssl." + which + "Store";
        String file = System.getProperty(prefix);
        require(file != null, prefix + " is not set");
        String password = System.getProperty(prefix + "Password");
        KeyStore store = KeyStore.getInstance(System.getProperty(prefix + "Type", KeyStore.getDefaultType()));
        try (InputStream in = new FileInputStream(file)) {
            store.load(in, password == null ? null : password.toCharArray());
        }
        return store;
    }

    private static void loopback() throws Exception {
        int done = 0;
        for (final String protocol : available()) {
            try (final SSLServerSocket server = listen(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0))) {
                FutureTask<Void> served = inBackground(new Callable<Void>() {
                    @Override
                    public Void call() throws Exception {
                        serveOne(server);
                        return null;
                    }
                });
                String seen;
                try {
                    seen = converse(InetAddress.getLoopbackAddress(), "localhost", server.getLocalPort(), protocol);
                } catch (Exception refused) {
                    // The server often knows the better reason.
                    try {
                        served.get();
                    } catch (Exception reason) {
                        refused.addSuppressed(reason);
                    }
                    throw refused;
                }
                served.get();
                require(seen.equals(protocol), "asked for " + protocol + ", got " + seen);
                done++;
            }
        }
        require(done > 0, "no protocol to try");
    }

    private static void serve(int port, int count) throws Exception {
        try (SSLServerSocket server = listen(new InetSocketAddress(port))) {
            System.out.println("listening port=" + server.getLocalPort());
            int failures = 0;
            for (int i = 0; i < count; i++) {
                try {
                    serveOne(server);
                } catch (IOException bad) {
                    failures++;
                    System.out.println("server failure=" + bad);
                }
            }
            require(failures == 0, failures + " of " + count + " connections failed");
        }
    }

    private static void connect(String host, int port) throws Exception {
        for (String protocol : available()) {
            String seen = converse(InetAddress.getByName(host), host, port, protocol);
            require(seen.equals(protocol), "asked for " + protocol + ", got " + seen);
        }
    }

    private static SSLServerSocket listen(InetSocketAddress where) throws Exception {
        ServerSocket plain = SSLContext.getDefault().getServerSocketFactory().createServerSocket();
        SSLServerSocket server = (SSLServerSocket) plain;
        server.setNeedClientAuth(true);
        server.setEnabledProtocols(available().toArray(new String[0]));
        server.setReuseAddress(true);
        server.bind(where);
        return server;
    }

    private static void serveOne(SSLServerSocket server) throws IOException {
        try (SSLSocket socket = (SSLSocket) server.accept()) {
            socket.setSoTimeout(TIMEOUT_MILLIS);
            socket.startHandshake();
            report("server", socket.getSession());
            require(socket.getInputStream().read() == PING, "the client did not say what was expected");
            socket.getOutputStream().write(PING);
            socket.getOutputStream().flush();
        }
    }

    /** Returns the protocol that was negotiated. */
    private static String converse(InetAddress address, String name, int port, String protocol) throws Exception {
        Socket plain = new Socket();
        plain.connect(new InetSocketAddress(address, port), TIMEOUT_MILLIS);
        plain.setSoTimeout(TIMEOUT_MILLIS);
        try (SSLSocket socket =
                (SSLSocket) SSLContext.getDefault().getSocketFactory().createSocket(plain, name, port, true)) {
            SSLParameters parameters = socket.getSSLParameters();
            parameters.setProtocols(new String[] {protocol});
            parameters.setEndpointIdentificationAlgorithm("HTTPS");
            socket.setSSLParameters(parameters);
            socket.startHandshake();
            report("client", socket.getSession());
            // In TLS 1.3 the client's handshake is over before the server has looked at its certificate:
            // only an answer shows that it was accepted.
            socket.getOutputStream().write(PING);
            socket.getOutputStream().flush();
            require(socket.getInputStream().read() == PING, "the server did not answer");
            return socket.getSession().getProtocol();
        }
    }

    private static void report(String side, SSLSession session) throws IOException {
        Certificate[] chain = session.getPeerCertificates();
        require(chain.length > 0 && chain[0] instanceof X509Certificate, "the peer showed no certificate");
        X509Certificate leaf = (X509Certificate) chain[0];
        System.out.println(side + " protocol=" + session.getProtocol()
            + " peer=" + leaf.getSubjectX500Principal() + " issuer=" + leaf.getIssuerX500Principal());
    }

    private static List<String> available() throws Exception {
        List<String> supported = Arrays.asList(SSLContext.getDefault().getSupportedSSLParameters().getProtocols());
        List<String> result = new ArrayList<>();
        for (String protocol : PROTOCOLS) {
            if (supported.contains(protocol)) {
                result.add(protocol);
            }
        }
        return result;
    }

    private static FutureTask<Void> inBackground(Callable<Void> what) {
        FutureTask<Void> task = new FutureTask<>(what);
        Thread thread = new Thread(task, "server");
        thread.setDaemon(true);
        thread.start();
        return task;
    }

    private static String subject(Certificate certificate) {
        return ((X509Certificate) certificate).getSubjectX500Principal().toString();
    }

    private static void require(boolean truth, String otherwise) throws IOException {
        if (!truth) {
            throw new IOException(otherwise);
        }
    }
}
