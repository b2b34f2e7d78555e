import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.crypto.CryptoProtocolVersion;
import org.apache.hadoop.fs.CreateFlag;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DFSClient;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.protocol.DatanodeInfo;
import org.apache.hadoop.hdfs.protocol.ExtendedBlock;
import org.apache.hadoop.hdfs.protocol.HdfsConstants.DatanodeReportType;
import org.apache.hadoop.hdfs.protocol.HdfsFileStatus;
import org.apache.hadoop.hdfs.protocol.LocatedBlock;
import org.apache.hadoop.hdfs.server.datanode.DataNode;
import org.apache.hadoop.hdfs.server.namenode.NameNode;
import org.apache.hadoop.io.EnumSetWritable;
import org.apache.hadoop.metrics2.lib.DefaultMetricsSystem;

/** Hadoop's namenode and datanodes, in this process, on free ports of the loopback interface. */
final class Cluster {
    private static final String HOLDER = "peer";
    private static final long PATIENCE_MS = 60_000;

    private final Configuration conf;
    private final NameNode namenode;
    private final List<DataNode> datanodes = new ArrayList<>();
    private final List<Path> folders = new ArrayList<>();

    private Cluster(Configuration conf, NameNode namenode) {
        this.conf = conf;
        this.namenode = namenode;
    }

    static Cluster start(Path home, int count) throws Exception {
        DefaultMetricsSystem.setMiniClusterMode(true);
        Configuration conf = new HdfsConfiguration();
        conf.set("fs.defaultFS", "hdfs://127.0.0.1:0");
        conf.set("hadoop.tmp.dir", home.resolve("tmp").toString());
        conf.set("dfs.namenode.name.dir", home.resolve("names").toUri().toString());
        conf.set("dfs.namenode.http-address", "127.0.0.1:0");
        conf.set("dfs.datanode.address", "127.0.0.1:0");
        conf.set("dfs.datanode.ipc.address", "127.0.0.1:0");
        conf.set("dfs.datanode.http.address", "127.0.0.1:0");
        conf.setBoolean("dfs.webhdfs.enabled", false);
        conf.setBoolean("dfs.permissions.enabled", false);
        conf.setBoolean("dfs.namenode.datanode.registration.ip-hostname-check", false);
        conf.setInt("dfs.namenode.fs-limits.min-block-size", 1);
        conf.setInt("dfs.heartbeat.interval", 1);
        conf.setInt("dfs.datanode.scan.period.hours", -1);
        conf.set("dfs.client.block.write.replace-datanode-on-failure.policy", "NEVER");
        NameNode.format(conf);
        NameNode namenode = NameNode.createNameNode(new String[0], conf);
        Configuration reachable = new Configuration(conf);
        reachable.set("fs.defaultFS", "hdfs://127.0.0.1:" + namenode.getNameNodeAddress().getPort());
        Cluster cluster = new Cluster(reachable, namenode);
        for (int i = 0; i < count; i++) {
            cluster.add(home.resolve("java-dn" + i));
        }
        cluster.awaitDatanodes();
        return cluster;
    }

    private void add(Path folder) throws IOException {
        Files.createDirectories(folder);
        Configuration own = new Configuration(conf);
        own.set("dfs.datanode.data.dir", folder.toUri().toString());
        datanodes.add(DataNode.createDataNode(new String[0], own));
        folders.add(folder);
    }

    private void awaitDatanodes() throws Exception {
        try (DFSClient client = Clients.client(conf, null)) {
            await("datanodes", () -> {
                int useful = 0;
                for (DatanodeInfo node : client.datanodeReport(DatanodeReportType.LIVE)) {
                    useful += node.getCapacity() > 0 ? 1 : 0;
                }
                return useful == datanodes.size();
            });
        }
    }

    Configuration configuration() {
        return conf;
    }

    /** {@code POOL UUID:PORT:FOLDER…} */
    String description() {
        StringBuilder text = new StringBuilder(namenode.getNamesystem().getBlockPoolId());
        for (int i = 0; i < datanodes.size(); i++) {
            DataNode node = datanodes.get(i);
            text.append(' ').append(node.getDatanodeUuid()).append(':').append(node.getXferPort());
            text.append(':').append(folders.get(i));
        }
        return text.toString();
    }

    String put(String name, byte[] data, short replication, Clients.Checksums checksums, long blockSize)
            throws IOException {
        Clients.write(conf, null, name, data, replication, checksums, blockSize, new int[0]);
        try (DFSClient client = Clients.client(conf, null)) {
            StringBuilder text = new StringBuilder();
            for (LocatedBlock block : client.getLocatedBlocks(name, 0, Long.MAX_VALUE).getLocatedBlocks()) {
                text.append(describe(block)).append(' ');
            }
            return text.toString();
        }
    }

    String allocate(String name, short replication, long blockSize) throws IOException {
        try (DFSClient client = Clients.client(conf, null)) {
            EnumSetWritable<CreateFlag> flags = new EnumSetWritable<>(EnumSet.of(CreateFlag.CREATE), CreateFlag.class);
            HdfsFileStatus status = client.getNamenode().create(
                    name, FsPermission.getFileDefault(), HOLDER, flags, true, replication, blockSize,
                    CryptoProtocolVersion.supported());
            return describe(client.getNamenode().addBlock(name, HOLDER, null, null, status.getFileId(), null));
        }
    }

    void complete(String name, long id, long stamp, long length) throws Exception {
        ExtendedBlock last = new ExtendedBlock(namenode.getNamesystem().getBlockPoolId(), id, length, stamp);
        try (DFSClient client = Clients.client(conf, null)) {
            long file = client.getNamenode().getFileInfo(name).getFileId();
            await("the datanodes' word of " + name, () -> client.getNamenode().complete(name, HOLDER, last, file));
        }
    }

    private static String describe(LocatedBlock block) {
        StringBuilder text = new StringBuilder();
        ExtendedBlock b = block.getBlock();
        text.append(b.getBlockId()).append(':').append(b.getGenerationStamp()).append(':').append(b.getNumBytes());
        char separator = ':';
        for (DatanodeInfo node : block.getLocations()) {
            text.append(separator).append(node.getXferPort());
            separator = ',';
        }
        return text.toString();
    }

    private interface Condition {
        boolean holds() throws IOException;
    }

    private static void await(String what, Condition condition) throws Exception {
        long end = System.nanoTime() + PATIENCE_MS * 1_000_000;
        while (!condition.holds()) {
            if (System.nanoTime() > end) {
                throw new IOException("waited in vain for " + what);
            }
            Thread.sleep(20);
        }
    }
}
