//! The languages of the corpus: what is built beforehand, how a program is started, and which versions these are.
//!
//! What is built or downloaded lies outside the repository: in the folder of `cargo xtask setup`, and beside the agent's
//! build.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::labels::{Scenario, folder};
use crate::{agent, app};

/// Where Debian's packages put Java's libraries.
const JARS: &str = "/usr/share/java/HikariCP.jar:/usr/share/java/postgresql.jar:/usr/share/java/slf4j-api.jar:\
                    /usr/share/java/slf4j-nop.jar:/usr/share/java/commons-dbcp2.jar:/usr/share/java/commons-pool2.jar:\
                    /usr/share/java/commons-logging.jar:/usr/share/java/c3p0.jar";

/// Languages that are ready to run.
pub struct Runtimes {
    built: PathBuf,
    python: Option<PathBuf>,
    node_modules: PathBuf,
}

impl Runtimes {
    /// Builds what these scenarios need to have built. What is missing is an error that names `setup`.
    pub fn prepare(scenarios: &[Scenario]) -> Result<Self> {
        let binary = agent::binary()?;
        let built = binary.parent().context("the agent's folder")?.join("corpus");
        let languages: BTreeSet<&str> = scenarios.iter().map(Scenario::language).collect();
        let uses = |language: &str| languages.contains(language);
        let python = app::interpreter();
        let runtimes = Self {
            node_modules: built.join("no-node-modules"),
            python: if uses("python") {
                Some(python?)
            } else {
                python.ok()
            },
            built,
        };
        fs::create_dir_all(&runtimes.built)?;
        let node_modules = runtimes
            .environment()
            .map(|folder| folder.join("node/node_modules"));
        let runtimes = Self {
            node_modules: node_modules.unwrap_or(runtimes.node_modules),
            ..runtimes
        };
        if uses("node") {
            ensure!(
                runtimes.node_modules.is_dir(),
                "{} is missing: cargo xtask setup --corpus",
                runtimes.node_modules.display()
            );
        }
        if uses("java") {
            runtimes.build_java()?;
        }
        if uses("go") {
            runtimes.build_go(scenarios)?;
        }
        if uses("rust") {
            runtimes.build_rust()?;
        }
        Ok(runtimes)
    }

    /// The command that runs this scenario's program.
    pub fn command(&self, scenario: &Scenario) -> Result<Command> {
        let program = scenario.program();
        let source = folder().join(&scenario.run);
        let with = |interpreter: &Path, arguments: &[&str]| {
            let mut command = Command::new(interpreter);
            command.args(arguments);
            command
        };
        let mut command = match scenario.language() {
            "python" => with(self.python.as_deref().context("python")?, &[]),
            "node" => {
                let mut command = with(Path::new("node"), &[]);
                command.env("NODE_PATH", &self.node_modules);
                command
            }
            "ruby" => with(Path::new("ruby"), &[]),
            "php" => with(Path::new("php"), &[]),
            "shell" => with(Path::new("sh"), &[]),
            "java" => {
                let classes = format!("{}:{JARS}", self.built.join("java").display());
                return Ok(with(
                    Path::new("java"),
                    &["-XX:TieredStopAtLevel=1", "-cp", &classes, program],
                ));
            }
            "go" => return Ok(Command::new(self.built.join("go").join(program))),
            "rust" => return Ok(Command::new(self.built.join("rust/release").join(program))),
            other => bail!("no such language: {other}"),
        };
        command.arg(source);
        Ok(command)
    }

    /// The versions of what these scenarios run on, for the page.
    pub fn versions(scenarios: &[Scenario]) -> BTreeMap<String, String> {
        let questions: [(&str, &str, &[&str]); 7] = [
            ("java", "java", &["-version"]),
            ("go", "go", &["version"]),
            ("node", "node", &["--version"]),
            ("ruby", "ruby", &["--version"]),
            ("php", "php", &["--version"]),
            ("rust", "rustc", &["--version"]),
            ("python", "python3", &["--version"]),
        ];
        let languages: BTreeSet<&str> = scenarios.iter().map(Scenario::language).collect();
        questions
            .into_iter()
            .filter(|(language, _, _)| languages.contains(language))
            .map(|(language, program, arguments)| {
                let program = match (language, app::interpreter()) {
                    ("python", Ok(path)) => path,
                    _ => PathBuf::from(program),
                };
                (language.to_owned(), first_line(&program, arguments))
            })
            .collect()
    }

    /// The folder of `cargo xtask setup`: the one that has the Python environment.
    fn environment(&self) -> Option<PathBuf> {
        let python = self.python.as_deref()?;
        Some(python.ancestors().nth(3)?.to_path_buf())
    }

    fn build_java(&self) -> Result<()> {
        let mut compiler = Command::new("javac");
        compiler
            .args(["-cp", JARS, "-d"])
            .arg(self.built.join("java"))
            .args(sources("java", "java")?);
        finish(&mut compiler)
    }

    fn build_go(&self, scenarios: &[Scenario]) -> Result<()> {
        let programs = scenarios.iter().filter(|scenario| scenario.language() == "go");
        for program in programs.map(Scenario::program).collect::<BTreeSet<_>>() {
            let mut compiler = Command::new("go");
            compiler
                .args(["build", "-o"])
                .arg(self.built.join("go").join(program))
                .args([format!("{program}.go"), "scenario.go".to_owned()])
                .current_dir(folder().join("go"))
                // Debian's packaged sources: Go's module proxy is not asked.
                .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode")])
                .env("GOCACHE", self.built.join("go/cache"));
            finish(&mut compiler)?;
        }
        Ok(())
    }

    fn build_rust(&self) -> Result<()> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut compiler = Command::new(cargo);
        compiler
            .args(["build", "--release", "--locked", "--quiet"])
            .env("CARGO_TARGET_DIR", self.built.join("rust"))
            .current_dir(folder().join("rust"));
        finish(&mut compiler)
    }
}

/// The files of one language.
fn sources(language: &str, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder().join(language))? {
        let path = entry?.path();
        if path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn finish(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("{program} is missing: cargo xtask setup --corpus"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// What a program says first about itself, on whichever stream.
#[must_use]
pub fn first_line(program: &Path, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return "missing".to_owned();
    };
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all)
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}
