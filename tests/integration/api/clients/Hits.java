import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.List;

/** The JDK's own client as it comes: over plain HTTP it offers an upgrade to h2c with its first request. */
public class Hits {
    public static void main(String[] arguments) throws Exception {
        URI uri = URI.create(arguments[0]);
        String hit = "{\"id\":\"java\"}";
        for (HttpClient client : List.of(
                HttpClient.newHttpClient(),
                HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build())) {
            for (int i = 0; i < 3; i++) {
                send(client, HttpRequest.newBuilder(uri).POST(BodyPublishers.ofString(hit)).build());
            }
            byte[] bytes = hit.getBytes(StandardCharsets.UTF_8);
            send(client, HttpRequest.newBuilder(uri).POST(BodyPublishers.ofByteArrays(List.of(bytes))).build());
            send(client, HttpRequest.newBuilder(uri).expectContinue(true).POST(BodyPublishers.ofString(hit)).build());
        }
    }

    private static void send(HttpClient client, HttpRequest request) throws Exception {
        System.out.println(client.send(request, BodyHandlers.ofString()).statusCode());
    }
}
