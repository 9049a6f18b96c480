import java.io.PrintStream;
import org.springframework.boot.Banner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.WebApplicationType;
import org.springframework.core.env.Environment;

/** Prints properties as an application of Spring Boot gets them, each with a NUL behind it: BootProperties --OPTION... KEY... */
public class BootProperties {
    public static void main(String[] args) throws Exception {
        SpringApplication application = new SpringApplication(BootProperties.class);
        application.setWebApplicationType(WebApplicationType.NONE);
        application.setBannerMode(Banner.Mode.OFF);
        application.setLogStartupInfo(false);
        Environment environment = application.run(args).getEnvironment();
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        for (String arg : args) {
            if (!arg.startsWith("--")) {
                out.print(environment.getRequiredProperty(arg) + "\0");
            }
        }
    }
}
