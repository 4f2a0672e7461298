//! Compiles SQLite's checksum VFS, which its source tree has and its amalgamation has not, against the SQLite that is
//! linked in anyway.

fn main() {
    println!("cargo:rerun-if-changed=vendor/cksumvfs.c");
    let sqlite =
        std::env::var_os("DEP_SQLITE3_INCLUDE").expect("libsqlite3-sys with bundled says where sqlite3.h lies");
    cc::Build::new()
        .file("vendor/cksumvfs.c")
        .include(sqlite)
        .define("SQLITE_CKSUMVFS_STATIC", None)
        .define("SQLITE_CKSUMVFS_INIT_FUNCNAME", "\"reserve_checksums\"")
        .define("NDEBUG", None)
        .warnings(false)
        .compile("cksumvfs");
}
