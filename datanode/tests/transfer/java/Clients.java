import java.io.IOException;
import java.net.URI;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.Random;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.CreateFlag;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Options.ChecksumOpt;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DFSClient;
import org.apache.hadoop.hdfs.DFSInputStream;
import org.apache.hadoop.hdfs.DFSOutputStream;
import org.apache.hadoop.hdfs.client.HdfsDataOutputStream.SyncFlag;
import org.apache.hadoop.hdfs.protocol.ClientProtocol;
import org.apache.hadoop.util.DataChecksum;

/** Hadoop's client, whole: it writes and reads files as an application does. */
final class Clients {
    private static final int BUFFER = 4096;

    private Clients() {}

    /** Which checksums a file gets. */
    static final class Checksums {
        final String type;
        final int chunk;

        Checksums(String type, int chunk) {
            this.type = type;
            this.chunk = chunk;
        }
    }

    /** Writes a file; at each of the lengths in {@code flushes} it is flushed or synced. */
    static void write(
            Configuration base,
            ClientProtocol names,
            String name,
            byte[] data,
            Checksums checksums,
            long blockSize,
            int[] flushes)
            throws IOException {
        write(base, names, name, data, (short) 1, checksums, blockSize, flushes);
    }

    static void write(
            Configuration base,
            ClientProtocol names,
            String name,
            byte[] data,
            short replication,
            Checksums checksums,
            long blockSize,
            int[] flushes)
            throws IOException {
        try (DFSClient client = client(new Configuration(base), names)) {
            ChecksumOpt option = new ChecksumOpt(DataChecksum.Type.valueOf(checksums.type), checksums.chunk);
            DFSOutputStream out =
                    client.create(
                            name,
                            FsPermission.getFileDefault(),
                            EnumSet.of(CreateFlag.CREATE, CreateFlag.OVERWRITE),
                            replication,
                            blockSize,
                            null,
                            BUFFER,
                            option);
            int at = 0;
            boolean sync = false;
            for (int flush : flushes) {
                out.write(data, at, flush - at);
                at = flush;
                if (sync) {
                    out.hsync(EnumSet.of(SyncFlag.UPDATE_LENGTH));
                } else {
                    out.hflush();
                }
                sync = !sync;
            }
            out.write(data, at, data.length - at);
            out.close();
        }
    }

    /** Reads a file in sequence, at positions and after seeks, and compares it with what was written. */
    static void compare(Configuration base, ClientProtocol names, String name, byte[] expected, String how)
            throws IOException {
        Configuration conf = new Configuration(base);
        conf.setBoolean("dfs.client.use.legacy.blockreader", how.equals("legacy"));
        try (DFSClient client = client(conf, names)) {
            try (DFSInputStream in = client.open(name, BUFFER, !how.equals("unchecked"))) {
                check(in.getFileLength() == expected.length, "length " + in.getFileLength());
                byte[] whole = new byte[expected.length];
                int have = 0;
                for (int n; have < whole.length && (n = in.read(whole, have, whole.length - have)) > 0; ) {
                    have += n;
                }
                check(have == whole.length && in.read() == -1, "ends after " + have);
                check(Arrays.equals(whole, expected), "other bytes");
                positions(in, expected);
            }
        }
    }

    private static void positions(DFSInputStream in, byte[] expected) throws IOException {
        // Around the borders of usual chunks, then anywhere, always the same.
        int[] borders = {0, 1, 511, 512, 513, 1023, 4095, 4096, 65_535, 65_536, expected.length - 1};
        for (int start : borders) {
            for (int length : new int[] {1, 2, 513}) {
                position(in, expected, start, length);
            }
        }
        Random random = new Random(7);
        for (int i = 0; i < 20; i++) {
            position(in, expected, random.nextInt(expected.length), 1 + random.nextInt(100_000));
        }
    }

    private static void position(DFSInputStream in, byte[] expected, int start, int length) throws IOException {
        if (start < 0 || start >= expected.length) {
            return;
        }
        int end = Math.min(expected.length, start + length);
        byte[] wanted = Arrays.copyOfRange(expected, start, end);
        byte[] found = new byte[wanted.length];
        in.readFully(start, found, 0, found.length);
        check(Arrays.equals(found, wanted), "other bytes at " + start + " by position");
        in.seek(start);
        int have = 0;
        for (int n; have < found.length && (n = in.read(found, have, found.length - have)) > 0; ) {
            have += n;
        }
        check(have == found.length && Arrays.equals(found, wanted), "other bytes at " + start + " after a seek");
    }

    private static void check(boolean holds, String otherwise) throws IOException {
        if (!holds) {
            throw new IOException(otherwise);
        }
    }

    /** A client of the cluster, or of a scripted namenode. */
    static DFSClient client(Configuration conf, ClientProtocol names) throws IOException {
        if (names == null) {
            URI cluster = FileSystem.getDefaultUri(conf);
            return new DFSClient(cluster, conf);
        }
        return new DFSClient(null, names, conf, null);
    }
}
