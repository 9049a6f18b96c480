import java.io.PrintStream;
import org.springframework.core.env.StandardEnvironment;
import org.springframework.core.io.FileSystemResource;
import org.springframework.core.io.support.ResourcePropertySource;

/** Prints properties of a file as a Spring application gets them, each with a NUL behind it: ReadSpring FILE KEY... */
final class ReadSpring {
    private ReadSpring() {}

    public static void main(String[] args) throws Exception {
        StandardEnvironment environment = new StandardEnvironment();
        environment.getPropertySources().addLast(new ResourcePropertySource(new FileSystemResource(args[0])));
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        for (int i = 1; i < args.length; i++) {
            out.print(environment.getRequiredProperty(args[i]) + "\0");
        }
    }
}
