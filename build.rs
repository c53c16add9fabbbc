//! The console's files, compressed while the gateway is built: they are a thirtieth of the binary so, and not a tenth, and reach a
//! browser over a slow network as fast. The sources stay as they are written; nothing but cargo is needed.
//!
//! Invariant: the same files give the same bytes by the same compiler, on every machine. A file that can't be read fails the build, by its name.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::{env, fs};

use miniz_oxide::deflate::compress_to_vec_zlib;

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    let (source, out) = (Path::new(&root).join("src/console"), Path::new(&out));
    println!("cargo:rerun-if-changed=src/console/assets");
    println!("cargo:rerun-if-changed=src/console/index.html");

    let mut names: Vec<String> = fs::read_dir(source.join("assets"))
        .expect("src/console/assets")
        .map(|entry| entry.expect("an entry of it").file_name().into_string().expect("a name in ASCII"))
        .collect();
    names.sort();
    let page = fs::read_to_string(source.join("index.html")).expect("src/console/index.html");
    // It tells versions apart, and keeps out nobody: std's hash does.
    let mut digest = DefaultHasher::new();
    page.hash(&mut digest);
    let mut table = String::new();
    for name in &names {
        let content = fs::read(source.join("assets").join(name)).unwrap_or_else(|e| panic!("src/console/assets/{name}: {e}"));
        (name, &content).hash(&mut digest);
        fs::write(out.join(format!("{name}.z")), compress_to_vec_zlib(&content, 10)).expect("OUT_DIR can be written");
        writeln!(table, "    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.z\"))),").expect("a String");
    }
    let digest = format!("{:016x}", digest.finish());
    let page = page.replace("{version}", &digest);
    let text = format!(
        "/// The digest of all files, which is a part of their address.\nconst DIGEST: &str = {digest:?};\n\
         /// The page that leads to them, as it is.\nconst PAGE: &str = {page:?};\n\
         /// Name and packed content of each file.\nstatic FILES: &[(&str, &[u8])] = &[\n{table}];\n"
    );
    fs::write(out.join("console.rs"), text).expect("OUT_DIR can be written");
}
