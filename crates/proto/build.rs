//! Compiles `proto/` with protox, so that no system protoc is needed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let files: Vec<PathBuf> = [
        "envelope/v1/envelope",
        "grant/v1/grant",
        "product/v1/product",
        "store/v1/manifest",
        "authority/v1/authority",
        "node/v1/node",
        "clean_room/v1/clean_room",
        "worker/v1/worker",
    ]
    .iter()
    .map(|f| root.join(format!("guildhall/{f}.proto")))
    .collect();
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(&files, [&root])?;
    tonic_prost_build::configure()
        .bytes(".guildhall.node.v1.ArrowMessage")
        .bytes(".guildhall.node.v1.RunRequest")
        .boxed(".guildhall.node.v1.Contribution.kind.terms")
        .compile_fds(descriptors)?;
    Ok(())
}
