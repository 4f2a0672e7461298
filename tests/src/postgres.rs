//! A real PostgreSQL server of Debian's package, on a free loopback port and in a folder of its own.
//!
//! It lives as long as a pipe from this process is open: a shell that waits for the pipe's end stops the server and removes
//! its folder, so that nothing is left behind however this process ends. The file stands on std alone, since the tests of
//! `store`, which this crate leans on, include it too.

use std::{
    env, fs,
    io::{self, BufRead, BufReader},
    net::TcpListener,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Where Debian puts the binaries of a version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Makes a cluster, runs its server until standard input ends, and removes it. The cluster's own collation is none of
/// bytes, so that whoever counts on byte order has to ask for it.
const SCRIPT: &str = r#"
set -e
PATH="$1:$PATH"
cd /
folder=$(mktemp -d "${TMPDIR:-/tmp}/postgres-XXXXXX")
trap 'rm -rf "$folder"' EXIT
initdb -D "$folder/data" -U harbinger --auth=trust --no-sync -E UTF8 --locale=C.UTF-8 \
    --locale-provider=icu --icu-locale=en-US >"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
case "$3" in *ssl=on*)
    cd "$folder/data"
    { openssl req -x509 -newkey rsa:2048 -nodes -subj "/CN=an authority" -keyout authority.key -out authority.crt &&
        openssl req -newkey rsa:2048 -nodes -subj "/CN=127.0.0.1" -keyout server.key -out request.csr &&
        echo "subjectAltName=IP:127.0.0.1" >names &&
        openssl x509 -req -in request.csr -CA authority.crt -CAkey authority.key -CAcreateserial -extfile names \
            -out server.crt && chmod 600 server.key; } >>"$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }
    echo "hostssl all all 127.0.0.1/32 trust" >pg_hba.conf
    cd / ;;
esac
pg_ctl -D "$folder/data" -l "$folder/log" -w -o "-p $2 -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c max_connections=400 $3" start >/dev/null || { cat "$folder/log" >&2; exit 1; }
echo "$folder"
cat >/dev/null
pg_ctl -D "$folder/data" -m immediate -w stop >/dev/null
"#;

/// A running server; it ends with this process, or when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    supervisor: Child,
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Postgres {
    /// Starts a server for tests: small, and without syncs; `None` where PostgreSQL is not installed, which is said on
    /// standard error.
    ///
    /// # Errors
    /// Where it is installed and does not start; what it said goes to standard error.
    pub fn start() -> io::Result<Option<Self>> {
        Self::start_with(&["shared_buffers=64MB", "fsync=off"])
    }

    /// Starts a server with settings, `name=value`, where its own defaults are not wanted.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with(settings: &[&str]) -> io::Result<Option<Self>> {
        let Some(binaries) = binaries() else {
            eprintln!("left out: PostgreSQL is not there ({VERSIONS}/*/bin)");
            return Ok(None);
        };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut supervisor = as_its_user("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(&binaries)
            .arg(port.to_string())
            .arg(settings.iter().map(|setting| format!("-c {setting} ")).collect::<String>())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Whoever interrupts the tests at a terminal does not interrupt the cleaning up.
            .process_group(0)
            .spawn()?;
        let mut folder = String::new();
        let output = supervisor.stdout.take().ok_or_else(|| io::Error::other("its output is not piped"))?;
        BufReader::new(output).read_line(&mut folder)?;
        if folder.is_empty() {
            return Err(io::Error::other(format!("PostgreSQL did not start: {}", supervisor.wait()?)));
        }
        let folder = PathBuf::from(folder.trim_end());
        Ok(Some(Self { supervisor, binaries, folder, port }))
    }

    /// The URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://harbinger@127.0.0.1:{}/{database}", self.port)
    }

    /// The certificate of the authority that signed the server's own, which a server with `ssl=on` has. It takes no
    /// connection in the clear.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("data/authority.crt")
    }

    /// Makes an empty database; its URL.
    ///
    /// # Errors
    /// Where the server refuses, as where there is one of that name.
    pub fn database(&self, name: &str) -> io::Result<String> {
        self.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(name))
    }

    /// Runs statements in a database; the rows, a line each.
    ///
    /// # Errors
    /// Where the server refuses, with its reason.
    pub fn sql(&self, database: &str, statements: &str) -> io::Result<String> {
        run(Command::new(self.binaries.join("psql")).args(["-qAt", "-v", "ON_ERROR_STOP=1"]).args([
            "-d",
            &self.url(database),
            "-c",
            statements,
        ]))
    }

    /// Stops the server as a power failure would, and starts it again.
    ///
    /// # Errors
    /// Where it does not start again.
    pub fn crash_and_restart(&self) -> io::Result<()> {
        // The server that stays behind must not hold the pipe that its output would go to.
        let control = as_its_user("sh")
            .args(["-c", "cd /; exec \"$1\" -D \"$2/data\" -l \"$2/log\" -m immediate -w restart >/dev/null", "sh"])
            .arg(self.binaries.join("pg_ctl"))
            .arg(&self.folder)
            .status()?;
        if control.success() { Ok(()) } else { Err(io::Error::other(format!("pg_ctl restart: {control}"))) }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // Its end is all that is waited for; what it says of itself helps nobody any more.
        let _ended = self.supervisor.wait();
    }
}

fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// The newest version's binaries.
fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.filter_map(|version| Some(version.ok()?.path().join("bin")));
    versions.filter(|folder| folder.join("initdb").exists()).max()
}

/// A command of the user that owns the server: PostgreSQL refuses to run as root.
fn as_its_user(program: &str) -> Command {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", program]);
    // A folder of root's own would be closed to it.
    if env::var_os("TMPDIR").is_some_and(|folder| Path::new(&folder) != Path::new("/tmp")) {
        command.env_remove("TMPDIR");
    }
    command
}
