//! `protoc` for build scripts that insist on one: descriptors only, made by protox.
//!
//! The `substrait` crate compiles its protos with prost-build, which runs `$PROTOC`. This stands
//! in for it (see `.cargo/config.toml`), so that a machine with nothing but Rust can build.

use std::path::PathBuf;
use std::process::ExitCode;

/// The part of protoc's command line that prost-build uses.
struct Request {
    include: Vec<PathBuf>,
    files: Vec<PathBuf>,
    output: PathBuf,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Request, String> {
    let (mut include, mut files, mut output) = (Vec::new(), Vec::new(), None);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("`{arg}` needs a value"));
        match arg.as_str() {
            "--include_imports"
            | "--include_source_info"
            | "--experimental_allow_proto3_optional" => {}
            "-o" => output = Some(PathBuf::from(value()?)),
            "-I" => include.push(PathBuf::from(value()?)),
            flag if flag.starts_with('-') => return Err(format!("`{flag}` is not supported")),
            file => files.push(PathBuf::from(file)),
        }
    }
    let output = output.ok_or("no `-o FILE`")?;
    Ok(Request {
        include,
        files,
        output,
    })
}

fn run() -> Result<(), String> {
    let request = parse(std::env::args().skip(1))?;
    let descriptors = protox::Compiler::new(&request.include)
        .and_then(|mut compiler| {
            compiler
                .include_imports(true)
                .include_source_info(true)
                .open_files(&request.files)
                .map(|c| c.encode_file_descriptor_set())
        })
        .map_err(|e| format!("{e:?}"))?;
    std::fs::write(&request.output, descriptors)
        .map_err(|e| format!("cannot write `{}`: {e}", request.output.display()))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("protoc: {message}");
            ExitCode::FAILURE
        }
    }
}
