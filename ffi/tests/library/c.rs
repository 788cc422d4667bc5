//! The library of this build in a folder as it is installed, and C programs that are linked with it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Which language a source is compiled as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Language {
    C11,
    Cpp17,
}

/// What a program is compiled with beside the warnings.
pub(crate) const SANITIZERS: &[&str] =
    &["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];

/// The folder of the crate.
pub(crate) fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder for the files of one test, empty.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Says what is left out, past the test's captured output: `scripts/test.sh` counts these lines.
pub(crate) fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// True when a program of this name can be run.
pub(crate) fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The folder with libmailproof.so, libmailproof.a and mailproof.pc of this build.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let built = scratch("library-built");
        fs::hard_link(archive(), built.join("libmailproof_ffi.a")).unwrap();
        let out = scratch("library");
        run(Command::new("sh").arg(folder().join("link.sh")).args([&built, &out]));
        out
    })
}

/// The static library that cargo has made for these tests: the newest beside the program of the tests.
fn archive() -> PathBuf {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let entries = fs::read_dir(deps).unwrap().map(|entry| entry.unwrap().path());
    let archives = entries.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libmailproof_ffi-") && name.ends_with(".a")
    });
    archives.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).expect("the static library")
}

/// Compiles a program against the library; gives its path.
pub(crate) fn compile(source: &Path, language: Language, more: &[&str], to: &Path) -> PathBuf {
    let (compiler, standard): (_, &[&str]) = match language {
        Language::C11 => ("cc", &["-std=c11"]),
        Language::Cpp17 => ("c++", &["-x", "c++", "-std=c++17"]),
    };
    let name = source.file_stem().unwrap().to_string_lossy();
    let program = to.join(format!("{name}-{language:?}"));
    let mut command = Command::new(compiler);
    command.args(standard).args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-O1"]);
    command.arg("-I").arg(folder().join("include")).arg(source);
    // What comes after is no source.
    command.args(["-x", "none"]).arg("-L").arg(library()).arg(format!("-Wl,-rpath,{}", library().display()));
    command.arg("-o").arg(&program).arg("-lmailproof").args(more);
    run(&mut command);
    program
}

/// Runs a command that has to succeed.
pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What a command that has to succeed says on its standard output.
pub(crate) fn said(command: &mut Command) -> String {
    String::from_utf8(run(command).stdout).unwrap()
}
