//! The status line, as unhelpful as the kernel's in the moment after a resume.

use super::Array;
use super::format::MAX;
use super::sync::Kind;

impl Array {
    /// `raid1 2 Aa 100/200 recover 0 0 -`.
    pub(in crate::host::sim) fn status(&self) -> String {
        let sync = self.syncing();
        let action = match sync {
            _ if self.frozen => "frozen",
            Some(sync) => sync.kind().word(),
            None => "idle",
        };
        let progress = match sync {
            Some(sync) => sync.completed(),
            None if self.frozen => 0,
            None => self.recovery_cp,
        };
        let kind = sync.map(super::sync::Sync::kind).filter(|_| !self.frozen);
        let pending = self.sync_needed && !self.read_only;
        let (all_alive, none_alive) = match kind {
            Some(Kind::Recover) => (false, false),
            Some(Kind::Resync) => (false, true),
            Some(Kind::Check | Kind::Repair) => (true, false),
            None if action == "idle" && progress >= self.sectors => (self.did_recover, false),
            None if pending => (false, true),
            None => (self.present().all(|(_, leg)| leg.in_sync), false),
        };
        let health: String = self
            .legs
            .iter()
            .map(|leg| match leg {
                None => '-',
                Some(leg) if leg.faulty => 'D',
                Some(leg) if none_alive || (!all_alive && !leg.in_sync) => 'a',
                Some(_) => 'A',
            })
            .collect();
        let done = if progress == MAX { self.sectors } else { progress.min(self.sectors) };
        format!("raid1 {} {health} {done}/{} {action} {} 0 -", self.legs.len(), self.sectors, self.mismatches)
    }

    /// The table line.
    pub(in crate::host::sim) fn table(&self) -> String {
        self.params.render()
    }
}
