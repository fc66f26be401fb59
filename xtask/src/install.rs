//! Programs that the tests run, and the Debian packages that bring them.

use std::error::Error;
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
