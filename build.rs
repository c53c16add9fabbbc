//! The console's files, compressed while the gateway is built: they are a thirtieth of the binary so, and not a tenth, and reach a
//! browser over a slow network as fast. The sources stay as they are written; nothing but cargo is needed.
//!
//! Invariant: the same files give the same bytes, on every machine. A file that can't be read fails the build, by its name.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

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
    let mut digest = Digest::new();
    digest.add(page.as_bytes());
    let mut table = String::new();
    for name in &names {
        let content = fs::read(source.join("assets").join(name)).unwrap_or_else(|e| panic!("src/console/assets/{name}: {e}"));
        digest.add(name.as_bytes());
        digest.add(&content);
        fs::write(out.join(format!("{name}.gz")), gzip(&content)).expect("OUT_DIR can be written");
        writeln!(table, "    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.gz\"))),").expect("a String");
    }
    let digest = digest.text();
    let page = page.replace("{version}", &digest);
    let text = format!(
        "/// The digest of all files, which is a part of their address.\nconst DIGEST: &str = {digest:?};\n\
         /// The page that leads to them, as it is.\nconst PAGE: &str = {page:?};\n\
         /// Name and packed content of each file.\nstatic FILES: &[(&str, &[u8])] = &[\n{table}];\n"
    );
    fs::write(out.join("console.rs"), text).expect("OUT_DIR can be written");
}

/// A gzip file (RFC 1952) without name and time.
fn gzip(content: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    file.extend(miniz_oxide::deflate::compress_to_vec(content, 10));
    file.extend(crc32(content).to_le_bytes());
    file.extend((content.len() as u32).to_le_bytes());
    file
}

/// The check sum of gzip, bit by bit: 180 KB take no time worth a table.
fn crc32(content: &[u8]) -> u32 {
    !content
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |c, _| (c >> 1) ^ (0xedb8_8320 & (c & 1).wrapping_neg())))
}

/// FNV-1a of 64 bits: it tells versions apart, and keeps out nobody.
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Digest(0xcbf2_9ce4_8422_2325)
    }

    /// A part, with its length before it.
    fn add(&mut self, part: &[u8]) {
        for byte in (part.len() as u64).to_be_bytes().iter().chain(part) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn text(&self) -> String {
        format!("{:016x}", self.0)[4..].to_string()
    }
}
