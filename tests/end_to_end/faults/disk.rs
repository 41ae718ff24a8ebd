//! A small disk for the bridge's store, in a mount namespace of its own: it goes with the process that holds it, however
//! the tests end.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::end_to_end::ground;
use crate::end_to_end::process::{self, Process};

/// Its size.
const SIZE: &str = "128m";

/// A tmpfs that only what runs through [`Disk::runner`] sees.
#[derive(Debug)]
pub struct Disk {
    holder: Process,
    at: PathBuf,
}

impl Disk {
    /// Mounts one at `at`, which must exist; `None` without root.
    pub fn mount(at: &Path) -> Option<Self> {
        if !ground::is_root() {
            return None;
        }
        let log = at.with_extension("disk.log");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command.arg(format!("mount -t tmpfs -o size={SIZE},mode=700 tmpfs \"$0\" && exec sleep 2147483647")).arg(at);
        let mut holder = Process::start("the disk's holder", command, &log);
        let (pid, there) = (holder.id(), at.to_owned());
        holder.await_ready(|| {
            let mut look = inside(pid, "mountpoint -q \"$0\"");
            look.arg(&there).status().is_ok_and(|status| status.success())
        });
        Some(Self { holder, at: at.to_owned() })
    }

    /// What runs a program where the disk is seen, from `folder`.
    pub fn runner(&self, folder: &Path) -> Vec<String> {
        let pid = self.holder.id().to_string();
        let folder = folder.display().to_string();
        let script = "cd \"$0\" && exec \"$@\"";
        ["nsenter", "--mount", "--target", &pid, "--", "sh", "-c", script, &folder].map(str::to_owned).to_vec()
    }

    /// Leaves no byte free.
    pub fn fill(&self) {
        // `dd` fails for want of room, as it should.
        self.run("dd if=/dev/zero of=\"$0/ballast\" bs=64k 2>/dev/null; ! touch \"$0/x\" || ! echo x > \"$0/x\"");
    }

    /// Takes the ballast away.
    pub fn empty(&self) {
        self.run("rm -f \"$0/ballast\" \"$0/x\"");
    }

    /// Nothing can be created or opened for writing; what is open stays so.
    pub fn read_only(&self) {
        self.run("mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"");
    }

    /// Ends [`Disk::read_only`].
    pub fn writable(&self) {
        self.run("umount \"$0\"");
    }

    fn run(&self, script: &str) {
        process::run(inside(self.holder.id(), script).arg(&self.at));
    }
}

fn inside(pid: u32, script: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--target", &pid.to_string(), "--", "sh", "-c", script]);
    command
}
