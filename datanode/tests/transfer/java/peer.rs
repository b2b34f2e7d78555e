//! The Java process: Hadoop's namenode and datanodes, and clients that do what they are told (see Peer.java).

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Weak;
use std::sync::mpsc::{Receiver, sync_channel};

use tempfile::TempDir;

use super::*;

/// Names the folder of Hadoop's jars.
const VARIABLE: &str = "BLOCKYARD_JAVA";
/// Longest wait for an answer: the first one includes the start of a cluster.
const PATIENCE: Duration = Duration::from_secs(90);
const DATANODES: usize = 2;
/// Hadoop 2.7 asks for an old version, uses what newer ones hide, and needs little.
const FLAGS: &[&str] = &[
    "-Djava.version=1.8.0",
    "-Djava.net.preferIPv4Stack=true",
    "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-ea:org.apache.hadoop...",
];
const LOGGING: &str = "log4j.rootLogger=INFO, err\nlog4j.appender.err=org.apache.log4j.ConsoleAppender\n\
    log4j.appender.err.target=System.err\nlog4j.appender.err.layout=org.apache.log4j.PatternLayout\n\
    log4j.appender.err.layout.ConversionPattern=%d{ABSOLUTE} %p %c{2}: %m%n\n";

/// Tests that run at the same time share the process; it ends with the last of them.
static SHARED: Mutex<Weak<Peer>> = Mutex::new(Weak::new());

/// The process.
pub(super) struct Peer {
    child: Child,
    talk: Mutex<(ChildStdin, Receiver<String>)>,
    /// Pool of its cluster.
    pub(super) pool: PoolId,
    /// Datanodes of its cluster.
    pub(super) datanodes: Vec<JavaNode>,
    folder: TempDir,
}

/// A datanode of the Java cluster.
pub(super) struct JavaNode {
    pub(super) target: Target,
    pub(super) dir: PathBuf,
}

/// A block as the Java side tells of it.
pub(super) struct JavaBlock {
    pub(super) block: BlockRef,
    pub(super) ports: Vec<u16>,
}

impl Peer {
    /// The process, started if it does not run; `None` if these tests are not asked for, and says so.
    pub(super) fn shared() -> Option<Arc<Self>> {
        let Some(jars) = std::env::var_os(VARIABLE).filter(|jars| !jars.is_empty()) else {
            println!("skipped: no Java peers; {VARIABLE}=$(.ci/java-peers) enables them");
            return None;
        };
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(peer) = shared.upgrade() {
            return Some(peer);
        }
        let peer = Arc::new(Self::start(Path::new(&jars)));
        *shared = Arc::downgrade(&peer);
        Some(peer)
    }

    fn start(jars: &Path) -> Self {
        assert!(jars.is_dir(), "{VARIABLE}={} is no folder: .ci/java-peers prints the right one", jars.display());
        let folder = tempfile::Builder::new().prefix("blockyard-java-").tempdir().unwrap();
        let classes = compile(jars, folder.path());
        lay_out(&classes);
        let log = File::create(folder.path().join("log")).unwrap();
        let mut child = Command::new("java")
            .args(FLAGS)
            .arg("-cp")
            .arg(class_path(&classes, jars))
            .arg("Peer")
            .arg(folder.path())
            .arg(DATANODES.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("java can be started");
        let (tell, answers) = sync_channel(1);
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let talk = Mutex::new((child.stdin.take().unwrap(), answers));
        let mut peer = Self { child, talk, pool: PoolId::new("none"), datanodes: Vec::new(), folder };
        let hello = peer.answer().unwrap_or_else(|error| peer.give_up(&format!("{error} (a JDK from 17 to 23?)")));
        let mut words = hello.split(' ');
        peer.pool = PoolId::parse(words.next().unwrap()).unwrap();
        peer.datanodes = words.map(JavaNode::parse).collect();
        peer
    }

    /// Gives a command; what it answered.
    pub(super) fn ask(&self, command: &str) -> Result<String, String> {
        let mut talk = self.talk.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writeln!(talk.0, "{command}").expect("the Java process takes a command");
        receive(&talk.1)
    }
    /// Gives a command that must succeed.
    pub(super) fn tell(&self, command: &str) -> String {
        self.ask(command).unwrap_or_else(|error| self.give_up(&format!("{command}: {error}")))
    }
    /// A file with these bytes, for the Java side to read.
    pub(super) fn source(&self, name: &str, data: &[u8]) -> String {
        let path = self.folder.path().join(format!("source-{name}"));
        std::fs::write(&path, data).unwrap();
        path.display().to_string()
    }
    /// A new file of the Java cluster with a block that nobody has written.
    pub(super) fn allocate(&self, name: &str, replication: usize, block_bytes: u64) -> JavaBlock {
        let answer = self.tell(&format!("allocate {name} {replication} {block_bytes}"));
        let mut allocated = JavaBlock::parse(&answer, &self.pool);
        allocated.block.len_bytes = block_bytes;
        allocated
    }
    /// Ends a file of the Java cluster: its namenode agrees once a datanode has reported this very length.
    pub(super) fn complete(&self, name: &str, block: &BlockRef, len_bytes: usize) {
        self.tell(&format!("complete {name} {} {} {len_bytes}", block.id.raw(), block.stamp.raw()));
    }
    /// The datanode of the Java cluster with this port.
    pub(super) fn at(&self, port: u16) -> &JavaNode {
        self.datanodes.iter().find(|node| node.target.transfer_port == port).unwrap()
    }

    fn answer(&self) -> Result<String, String> {
        receive(&self.talk.lock().unwrap().1)
    }
    fn give_up(&self, why: &str) -> ! {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(60).collect();
        panic!("{why}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.child.kill().expect("the Java process can be ended");
        self.child.wait().expect("the Java process ends");
    }
}

impl JavaNode {
    /// `UUID:PORT:FOLDER`
    fn parse(word: &str) -> Self {
        let parts: Vec<&str> = word.splitn(3, ':').collect();
        let [uuid, port, dir] = parts[..] else { panic!("{word:?} is no datanode") };
        let target = Target {
            node: NodeId::parse(uuid).unwrap(),
            // Hadoop 2.7 knows no storage ids on this wire.
            storage: StorageId::parse(transfer::op::ANY_STORAGE).unwrap(),
            host: "127.0.0.1".into(),
            transfer_port: port.parse().unwrap(),
        };
        Self { target, dir: dir.into() }
    }
}

impl JavaBlock {
    /// `ID:STAMP:LENGTH:PORT,PORT…`
    pub(super) fn parse(word: &str, pool: &PoolId) -> Self {
        let parts: Vec<&str> = word.split(':').collect();
        let [id, stamp, len, ports] = parts[..] else { panic!("{word:?} is no block") };
        let block = BlockRef {
            pool: pool.clone(),
            id: BlockId::from_raw(id.parse().unwrap()),
            stamp: GenerationStamp::from_raw(stamp.parse().unwrap()),
            len_bytes: len.parse().unwrap(),
        };
        Self { block, ports: ports.split(',').map(|port| port.parse().unwrap()).collect() }
    }
}

fn receive(answers: &Receiver<String>) -> Result<String, String> {
    let line = answers.recv_timeout(PATIENCE).map_err(|error| format!("no answer from the Java process: {error}"))?;
    match line.split_once(' ').unwrap_or((&line, "")) {
        ("ok", answer) => Ok(answer.to_owned()),
        (_, error) => Err(error.to_owned()),
    }
}

/// Compiles the sources beside this file.
fn compile(jars: &Path, folder: &Path) -> PathBuf {
    let (sources, classes) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transfer/java"), folder.join("classes"));
    let files = ["Peer.java", "Cluster.java", "Clients.java", "Names.java"].map(|name| sources.join(name));
    let compiled = Command::new("javac")
        .args(["-nowarn", "-proc:none", "-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "-d"])
        .arg(&classes)
        .arg("-cp")
        .arg(jars.join("*"))
        .args(files)
        .output()
        .expect("javac can be started");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    classes
}

/// What Hadoop's servers look for in their class path: empty web pages, and how to log.
fn lay_out(classes: &Path) {
    for page in ["hdfs", "datanode"] {
        let folder = classes.join("webapps").join(page).join("WEB-INF");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("web.xml"), "<web-app/>\n").unwrap();
    }
    std::fs::create_dir_all(classes.join("webapps/static")).unwrap();
    std::fs::write(classes.join("log4j.properties"), LOGGING).unwrap();
}

fn class_path(classes: &Path, jars: &Path) -> String {
    format!("{}:{}", classes.display(), jars.join("*").display())
}
