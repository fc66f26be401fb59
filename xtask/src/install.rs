//! Programs that the tests run, and the Debian packages that bring them.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether a program runs and reports success; silent.
pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let quiet = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Runs a program that must report success.
pub(crate) fn command(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed").into()) }
}

/// Installs packages by apt-get, as root or with a sudo that asks for nothing.
pub(crate) fn apt_get(packages: &[&str]) -> Result<(), String> {
    if !succeeds("apt-get", &["--version"]) {
        return Err("there is no apt-get".into());
    }
    let user = Command::new("id").arg("-u").output().map_err(|e| format!("the user is not known: {e}"))?;
    let sudo: &[&str] = match user.stdout.trim_ascii() {
        b"0" => &[],
        _ if succeeds("sudo", &["-n", "true"]) => &["sudo", "-n"],
        _ => return Err("neither root nor a sudo without password".into()),
    };
    for arguments in [&["apt-get", "update"][..], &[&["apt-get", "install", "-y"], packages].concat()] {
        let line = [sudo, arguments].concat();
        eprintln!("== {}", line.join(" "));
        if !succeeds(line[0], &line[1..]) {
            return Err(format!("`{}` failed", line.join(" ")));
        }
    }
    Ok(())
}

/// The interpreter of the virtual environment in a folder, which is made where it is missing.
pub(crate) fn environment(folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let python = folder.join("bin/python");
    if !folder.join("bin/pip").exists() {
        if !succeeds("python3", &["-c", "import venv, ensurepip"]) {
            apt_get(&["python3", "python3-venv", "python3-pip"]).map_err(|reason| {
                format!("python3 with venv and pip is needed, and {reason}; install Python 3.10 or newer")
            })?;
        }
        command(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    }
    Ok(python)
}
