import java.io.Closeable;
import java.io.IOException;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.hadoop.fs.FsServerDefaults;
import org.apache.hadoop.fs.StorageType;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.protocol.ClientProtocol;
import org.apache.hadoop.hdfs.protocol.DatanodeID;
import org.apache.hadoop.hdfs.protocol.DatanodeInfo;
import org.apache.hadoop.hdfs.protocol.ExtendedBlock;
import org.apache.hadoop.hdfs.protocol.HdfsFileStatus;
import org.apache.hadoop.hdfs.protocol.LocatedBlock;
import org.apache.hadoop.hdfs.protocol.LocatedBlocks;
import org.apache.hadoop.hdfs.security.token.block.BlockTokenIdentifier;
import org.apache.hadoop.io.Text;
import org.apache.hadoop.security.token.Token;
import org.apache.hadoop.util.DataChecksum;

/** A namenode of a few lines: it says what it was told, so that Hadoop's client finds datanodes of ours. */
final class Names implements InvocationHandler, Closeable {
    private final List<DatanodeInfo> nodes = new ArrayList<>();
    private final Map<String, FileOfBlocks> files = new HashMap<>();
    private final StringBuilder reports = new StringBuilder();

    private static final class FileOfBlocks {
        final long blockSize;
        final List<LocatedBlock> blocks = new ArrayList<>();
        /** Blocks that a writer was given so far. */
        int given;

        FileOfBlocks(long blockSize) {
            this.blockSize = blockSize;
        }

        /** What a writer says of the length of a block. */
        void note(ExtendedBlock said) {
            for (LocatedBlock block : blocks) {
                if (said != null && block.getBlock().getBlockId() == said.getBlockId()) {
                    block.getBlock().setNumBytes(said.getNumBytes());
                }
            }
        }

        LocatedBlock next() throws IOException {
            if (given == blocks.size()) {
                throw new IOException("no more blocks are planned");
            }
            return blocks.get(given++);
        }
    }

    synchronized int node(String uuid, int port) {
        nodes.add(new DatanodeInfo(new DatanodeID("127.0.0.1", "localhost", uuid, port, 0, 0, 0)));
        return nodes.size() - 1;
    }

    synchronized void file(String name, String pool, long blockSize, String[] plans, int from) {
        FileOfBlocks file = new FileOfBlocks(blockSize);
        long start = 0;
        for (int i = from; i < plans.length; i++) {
            LocatedBlock block = block(pool, plans[i].split(":"), start);
            start += block.getBlockSize();
            file.blocks.add(block);
        }
        files.put(name, file);
    }

    private LocatedBlock block(String pool, String[] plan, long start) {
        ExtendedBlock name =
                new ExtendedBlock(pool, Long.parseLong(plan[0]), Long.parseLong(plan[2]), Long.parseLong(plan[1]));
        String[] numbers = plan[3].split(",");
        DatanodeInfo[] at = new DatanodeInfo[numbers.length];
        String[] storages = new String[numbers.length];
        StorageType[] types = new StorageType[numbers.length];
        for (int i = 0; i < at.length; i++) {
            at[i] = nodes.get(Integer.parseInt(numbers[i]));
            storages[i] = "DS-any";
            types[i] = StorageType.DISK;
        }
        LocatedBlock block = new LocatedBlock(name, at, storages, types, start, false, null);
        block.setBlockToken(new Token<BlockTokenIdentifier>(
                bytes(plan[4]), bytes(plan[5]), new Text("HDFS_BLOCK_TOKEN"), new Text("")));
        return block;
    }

    synchronized long blockSize(String name) throws IOException {
        return known(name).blockSize;
    }

    synchronized void forgetReports() {
        reports.setLength(0);
    }

    synchronized String reports() {
        return reports.toString();
    }

    ClientProtocol protocol() {
        Class<?>[] faces = {ClientProtocol.class};
        return (ClientProtocol) Proxy.newProxyInstance(Names.class.getClassLoader(), faces, this);
    }

    @Override
    public synchronized Object invoke(Object self, Method method, Object[] args) throws Throwable {
        if (method.getDeclaringClass() == Object.class) {
            return method.invoke(this, args);
        }
        switch (method.getName()) {
            case "getServerDefaults":
                return new FsServerDefaults(1 << 20, 512, 65_536, (short) 1, 4096, false, 0, DataChecksum.Type.CRC32C);
            case "create":
                return status(known(args[0]));
            case "getFileInfo":
                return status(known(args[0]));
            case "addBlock":
                known(args[0]).note((ExtendedBlock) args[2]);
                return known(args[0]).next();
            case "abandonBlock":
                known(args[2]).given--;
                return null;
            case "complete":
                known(args[0]).note((ExtendedBlock) args[2]);
                return true;
            case "getBlockLocations":
                return locations(known(args[0]));
            case "reportBadBlocks":
                for (LocatedBlock bad : (LocatedBlock[]) args[0]) {
                    reports.append(bad.getBlock().getBlockId()).append('@').append(bad.getLocations()[0].getXferPort());
                    reports.append(' ');
                }
                return null;
            case "fsync":
            case "renewLease":
                return null;
            default:
                throw new IOException("the scripted namenode has no " + method.getName());
        }
    }

    private FileOfBlocks known(Object name) throws IOException {
        FileOfBlocks file = files.get(name);
        if (file == null) {
            throw new IOException("no file " + name);
        }
        return file;
    }

    private static HdfsFileStatus status(FileOfBlocks file) {
        long length = 0;
        for (LocatedBlock block : file.blocks) {
            length += block.getBlockSize();
        }
        return new HdfsFileStatus(
                length, false, 1, file.blockSize, 0, 0, FsPermission.getFileDefault(), "ana", "ana", null,
                new byte[0], 1, 0, null, (byte) 0);
    }

    /** Blocks again in their places, now that their lengths are known. */
    private static LocatedBlocks locations(FileOfBlocks file) {
        List<LocatedBlock> placed = new ArrayList<>();
        long start = 0;
        for (LocatedBlock block : file.blocks) {
            LocatedBlock copy = new LocatedBlock(
                    block.getBlock(), block.getLocations(), block.getStorageIDs(), block.getStorageTypes(), start,
                    false, null);
            copy.setBlockToken(block.getBlockToken());
            placed.add(copy);
            start += block.getBlockSize();
        }
        LocatedBlock last = placed.isEmpty() ? null : placed.get(placed.size() - 1);
        return new LocatedBlocks(start, false, Collections.unmodifiableList(placed), last, true, null);
    }

    private static byte[] bytes(String hex) {
        byte[] bytes = new byte[hex.length() / 2];
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) Integer.parseInt(hex.substring(2 * i, 2 * i + 2), 16);
        }
        return bytes;
    }

    @Override
    public void close() {}
}
