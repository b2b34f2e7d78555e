import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;

/**
 * Hadoop's own classes at the service of a test: a namenode with datanodes, and clients.
 *
 * <p>One command a line on standard input, one answer a line on standard output: {@code ok …} or {@code error …}.
 * It ends with its standard input. Words are separated by spaces; bytes travel as files.
 *
 * <pre>
 *   put NAME SOURCE REPLICATION TYPE CHUNK BLOCK_SIZE   a client writes a file into the cluster      BLOCK…
 *   get NAME SOURCE HOW                                 a client reads it and compares
 *   allocate NAME REPLICATION BLOCK_SIZE                a new file with a block that nobody wrote    BLOCK
 *   complete NAME ID STAMP LENGTH                       the file is whole, once a datanode said so
 *   node UUID PORT                                      a datanode that is not of this cluster       NUMBER
 *   file NAME POOL BLOCK_SIZE PLAN…                     a file of the scripted namenode
 *   write NAME SOURCE TYPE CHUNK FLUSHES                a client writes it: hflush and hsync in turn at FLUSHES
 *   read NAME SOURCE HOW                                a client reads it and compares               bad blocks reported
 *
 *   BLOCK  ID:STAMP:LENGTH:PORT,PORT…
 *   PLAN   ID:STAMP:LENGTH:NODE,NODE…:TOKEN_IDENTIFIER:TOKEN_PASSWORD   (NODE numbers; hexadecimal)
 *   HOW    stream | legacy | unchecked
 * </pre>
 */
public final class Peer {
    private final Cluster cluster;
    private final Names names = new Names();

    private Peer(Cluster cluster) {
        this.cluster = cluster;
    }

    public static void main(String[] args) throws Exception {
        PrintStream answers = System.out;
        // What libraries print is no answer.
        System.setOut(System.err);
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Peer peer = new Peer(Cluster.start(Paths.get(args[0]), Integer.parseInt(args[1])));
        answers.println("ok " + peer.cluster.description());
        for (String line; (line = commands.readLine()) != null; ) {
            String answer;
            try {
                answer = "ok " + peer.obey(line.split(" "));
            } catch (Exception | AssertionError problem) {
                problem.printStackTrace();
                answer = "error " + problem.toString().replace('\n', ' ').replace('\r', ' ');
            }
            answers.println(answer.trim());
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private String obey(String[] words) throws Exception {
        String name = words.length > 1 ? "/" + words[1] : "";
        switch (words[0]) {
            case "put":
                return cluster.put(name, bytes(words[2]), Short.parseShort(words[3]), checksums(words, 4), number(words[6]));
            case "get":
                Clients.compare(cluster.configuration(), null, name, bytes(words[2]), words[3]);
                return "";
            case "allocate":
                return cluster.allocate(name, Short.parseShort(words[2]), number(words[3]));
            case "complete":
                cluster.complete(name, number(words[2]), number(words[3]), number(words[4]));
                return "";
            case "node":
                return String.valueOf(names.node(words[1], Integer.parseInt(words[2])));
            case "file":
                names.file(name, words[2], number(words[3]), words, 4);
                return "";
            case "write":
                Clients.write(cluster.configuration(), names.protocol(), name, bytes(words[2]), checksums(words, 3), names.blockSize(name), flushes(words[5]));
                return "";
            case "read":
                names.forgetReports();
                Clients.compare(cluster.configuration(), names.protocol(), name, bytes(words[2]), words[3]);
                return names.reports();
            default:
                throw new IOException("unknown command " + words[0]);
        }
    }

    private static byte[] bytes(String file) throws IOException {
        Path path = Paths.get(file);
        return Files.readAllBytes(path);
    }

    private static long number(String word) {
        return Long.parseLong(word);
    }

    private static Clients.Checksums checksums(String[] words, int at) {
        return new Clients.Checksums(words[at], Integer.parseInt(words[at + 1]));
    }

    private static int[] flushes(String word) {
        if (word.equals("-")) {
            return new int[0];
        }
        String[] parts = word.split(",");
        int[] flushes = new int[parts.length];
        for (int i = 0; i < parts.length; i++) {
            flushes[i] = Integer.parseInt(parts[i]);
        }
        return flushes;
    }
}
