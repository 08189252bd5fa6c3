//! `builder` turns an app's folder into a droplet (as buildpackapplifecycle `builder`), with buildpacks that are part of this
//! program.
//!
//! ```text
//! detect ─▶ compile ─▶ release ─▶ droplet (tgz) + result.json
//!   222       223        224                        exit statuses that the Cloud Controller knows
//! ```
//! Everything on stdout and stderr becomes the app's staging log. The program runs as vcap inside the staging container.

mod binary;
mod droplet;
mod procfile;
mod python;
mod staticfile;
mod wheel;

use crate::flags::Flags;
use staging_result::StagingResult;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const VALUES: &[&str] = &[
    "buildDir",
    "outputDroplet",
    "outputMetadata",
    "outputBuildArtifactsCache",
    "buildpacksDir",
    "buildpacksDownloadDir",
    "buildArtifactsCacheDir",
    "buildpackOrder",
    "credhubConnectAttempts",
    "credhubRetryDelay",
];
const SWITCHES: &[&str] = &["skipDetect", "skipCertVerify"];

/// The buildpacks in the order in which they are tried if none is named. Their names and versions are those that Cloud Controller
/// lists.
const BUILDPACKS: &[&dyn Buildpack] = &[
    &staticfile::Staticfile,
    &python::Python,
    &procfile::ProcfileBuildpack,
    &binary::Binary,
];

/// One built-in buildpack.
trait Buildpack {
    /// Returns the key, e.g. `binary_buildpack`.
    fn key(&self) -> &'static str;
    /// Returns the title, e.g. `Binary`.
    fn title(&self) -> &'static str;
    fn version(&self) -> &'static str {
        "1.0.0"
    }
    /// Returns whether this buildpack supports the app. It only reads.
    fn detect(&self, app: &Path) -> bool;
    /// Makes the folder ready to run. Returns the commands to start if there is no Procfile. The error is the text for the user.
    fn compile(&self, app: &Path) -> Result<Compiled, String>;
}

/// The result of a buildpack beside the changed folder.
#[derive(Debug, Default)]
struct Compiled {
    /// The commands by process type.
    process_types: BTreeMap<String, String>,
    /// The scripts that the launcher sources before the start: name and content.
    profile: Vec<(String, String)>,
}

pub(crate) fn main(args: &[String]) -> ExitCode {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("builder: {problem}");
            return ExitCode::from(2);
        }
    };
    match build(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.status())
        }
    }
}

#[derive(Debug)]
struct Options {
    build_dir: PathBuf,
    output_droplet: PathBuf,
    output_metadata: PathBuf,
    output_cache: PathBuf,
    order: Vec<String>,
    skip_detect: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, String> {
        let flags = Flags::parse(args, VALUES, SWITCHES)?;
        let order = flags
            .text("buildpackOrder", "")
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        Ok(Self {
            build_dir: flags.text("buildDir", "/tmp/app").into(),
            output_droplet: flags.text("outputDroplet", "/tmp/droplet").into(),
            output_metadata: flags.text("outputMetadata", "/tmp/result.json").into(),
            output_cache: flags
                .text("outputBuildArtifactsCache", "/tmp/output-cache")
                .into(),
            order,
            skip_detect: flags.switch("skipDetect")?,
        })
    }
}

/// An error that ends the staging. The variant decides the exit status.
#[derive(Debug)]
enum Failure {
    Other(String),
    /// No buildpack supports the app. The text is the advice for this folder.
    Detect(&'static str),
    Compile(String),
    Release(String),
    Supply(String),
}

impl Failure {
    fn status(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::Detect(_) => staging_result::DETECT_FAILED,
            Self::Compile(_) => staging_result::COMPILE_FAILED,
            Self::Release(_) => staging_result::RELEASE_FAILED,
            Self::Supply(_) => staging_result::SUPPLY_FAILED,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(problem) => write!(f, "{problem}"),
            Self::Detect(advice) => write!(
                f,
                "None of the buildpacks detected a compatible application\n{advice}Name a buildpack with -b: {}",
                names()
            ),
            Self::Compile(problem) => write!(f, "Failed to compile droplet: {problem}"),
            Self::Release(problem) => write!(f, "Failed to build droplet release: {problem}"),
            Self::Supply(problem) => write!(f, "Failed to run all supply scripts: {problem}"),
        }
    }
}

fn names() -> String {
    BUILDPACKS
        .iter()
        .map(|buildpack| buildpack.key())
        .collect::<Vec<_>>()
        .join(", ")
}

fn build(options: &Options) -> Result<(), Failure> {
    let app = options.build_dir.as_path();
    if !app.is_dir() {
        return Err(Failure::Other(format!(
            "builder: the app's folder {} does not exist",
            app.display()
        )));
    }
    let buildpack = choose(options, app)?;
    println!(
        "-----> {} Buildpack version {}",
        buildpack.title(),
        buildpack.version()
    );
    let compiled = buildpack.compile(app).map_err(Failure::Compile)?;
    let mut process_types = compiled.process_types;
    process_types.extend(
        procfile::read(app)
            .map_err(Failure::Release)?
            .unwrap_or_default(),
    );
    if !process_types.contains_key("web") {
        println!("No start command specified by buildpack or via Procfile.");
        println!("App will not start unless a command is provided at runtime.");
    }
    let result = StagingResult::of_buildpack(
        buildpack.key(),
        buildpack.title(),
        buildpack.version(),
        process_types,
    );
    droplet::write(app, &options.output_droplet, &compiled.profile, &result).map_err(|error| {
        Failure::Other(format!("Failed to compress droplet filesystem: {error}"))
    })?;
    droplet::write_result(&options.output_metadata, &result).map_err(|error| {
        Failure::Other(format!(
            "builder: write {}: {error}",
            options.output_metadata.display()
        ))
    })?;
    droplet::write_empty_cache(&options.output_cache)
        .map_err(|error| Failure::Other(format!("Failed to compress build artifacts: {error}")))
}

/// Returns the named buildpack, or the first one that supports the app.
fn choose(options: &Options, app: &Path) -> Result<&'static dyn Buildpack, Failure> {
    let mut candidates = Vec::new();
    for name in &options.order {
        let found = BUILDPACKS.iter().find(|buildpack| {
            buildpack.key() == name || buildpack.key().strip_suffix("_buildpack") == Some(name)
        });
        candidates.push(*found.ok_or_else(|| {
            Failure::Other(format!(
                "Buildpack {name:?} is not available here; available are {}",
                names()
            ))
        })?);
    }
    if candidates.is_empty() {
        candidates = BUILDPACKS.to_vec();
    }
    if !options.skip_detect {
        return candidates
            .into_iter()
            .find(|buildpack| buildpack.detect(app))
            .ok_or_else(|| Failure::Detect(advice(app)));
    }
    match candidates[..] {
        [only] => Ok(only),
        [first, ..] => Err(Failure::Supply(format!(
            "{} does not support multi-buildpack apps; name one buildpack only",
            first.key()
        ))),
        [] => unreachable!("candidates fall back to all"),
    }
}

/// Returns advice about what is probably missing in a folder that no buildpack supports. It ends with a newline.
fn advice(app: &Path) -> &'static str {
    const ADVICE: &[(&str, &str)] = &[
        (
            "package.json",
            "This looks like a Node.js app, and there is no Node.js buildpack here: push the built pages with a file named Staticfile beside them, or a Linux program with a Procfile.\n",
        ),
        (
            "index.html",
            "A folder with an index.html is published only when it contains a file named Staticfile (it may be empty): everything beside it becomes public then, or only the folder that its line \"root: FOLDER\" names.\n",
        ),
        (
            "pom.xml",
            "This looks like a Java app, and there is no Java buildpack here.\n",
        ),
        (
            "META-INF/MANIFEST.MF",
            "This looks like a jar, and there is no Java buildpack here.\n",
        ),
        (
            "Gemfile",
            "This looks like a Ruby app, and there is no Ruby buildpack here.\n",
        ),
        (
            "composer.json",
            "This looks like a PHP app, and there is no PHP buildpack here.\n",
        ),
        (
            "go.mod",
            "This looks like the source of a Go program: build it for Linux, and push the folder with the program.\n",
        ),
        (
            "Cargo.toml",
            "This looks like the source of a Rust program: build it for Linux, and push the folder with the program.\n",
        ),
    ];
    ADVICE
        .iter()
        .find(|(name, _)| app.join(name).is_file())
        .map_or("", |(_, advice)| advice)
}

/// Returns a word of a shell command, quoted if necessary.
fn shell_word(word: &str) -> String {
    let plain = !word.is_empty()
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-/+=:@%".contains(c));
    if plain {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_the_originals_defaults() {
        let options =
            Options::parse(&["-buildpackOrder=a, b".to_owned(), "-skipDetect".to_owned()]).unwrap();
        assert_eq!(options.build_dir, Path::new("/tmp/app"));
        assert_eq!(options.output_droplet, Path::new("/tmp/droplet"));
        assert_eq!(options.output_metadata, Path::new("/tmp/result.json"));
        assert_eq!(
            (options.order.as_slice(), options.skip_detect),
            (["a".to_owned(), "b".to_owned()].as_slice(), true)
        );
    }

    #[test]
    fn words_are_quoted_when_needed() {
        assert_eq!(shell_word("./proxy"), "./proxy");
        assert_eq!(shell_word("./my app's"), r"'./my app'\''s'");
    }
}
