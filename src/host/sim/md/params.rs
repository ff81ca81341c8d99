//! The parameters of a raid table line, as strict as the kernel is.

use super::super::errno::{EINVAL, Errno};
use crate::host::DevNo;

const DEFAULT_REGION: u64 = 8192;

/// A parsed line.
#[derive(Clone, Debug)]
pub(super) struct Params {
    pub(super) sync: bool,
    pub(super) nosync: bool,
    pub(super) rebuild: Vec<usize>,
    pub(super) write_mostly: Vec<usize>,
    pub(super) region: u64,
    /// KiB/s per leg.
    pub(super) max_recovery_rate: Option<u64>,
    /// Words with a value, printed back in the kernel's own order.
    valued: Vec<(&'static str, u64)>,
    pub(super) devices: Vec<Option<(DevNo, DevNo)>>,
}

fn number(word: &str) -> Result<u64, Errno> {
    word.parse().map_err(|_| EINVAL)
}

impl Params {
    /// Parses `raid1 <#params> 0 … <#devices> <meta> <data> …`; `lookup` knows devices by number or path.
    pub(super) fn parse(
        text: &str,
        len: u64,
        lookup: impl Fn(&str) -> Result<DevNo, Errno>,
    ) -> Result<Self, Errno> {
        let mut words = text.split_ascii_whitespace();
        let mut next = || words.next().ok_or(EINVAL);
        if next()? != "raid1" {
            return Err(EINVAL);
        }
        let count = usize::try_from(number(next()?)?).map_err(|_| EINVAL)?;
        let params: Vec<&str> = (0..count).map(|_| next()).collect::<Result<_, _>>()?;
        let slots = usize::try_from(number(next()?)?).map_err(|_| EINVAL)?;
        let mut parsed = Self {
            sync: false,
            nosync: false,
            rebuild: Vec::new(),
            write_mostly: Vec::new(),
            region: DEFAULT_REGION.min(len),
            max_recovery_rate: None,
            valued: Vec::new(),
            devices: Vec::new(),
        };
        for _ in 0..slots {
            parsed.devices.push(match (next()?, next()?) {
                ("-", "-") => None,
                (_, "-") | ("-", _) => return Err(EINVAL),
                (meta, data) => Some((lookup(meta)?, lookup(data)?)),
            });
        }
        if words.next().is_some() || slots == 0 {
            return Err(EINVAL);
        }
        parsed.options(&params)?;
        parsed.check(len)?;
        Ok(parsed)
    }

    fn options(&mut self, params: &[&str]) -> Result<(), Errno> {
        let [chunk, options @ ..] = params else { return Err(EINVAL) };
        if number(chunk)? != 0 {
            return Err(EINVAL);
        }
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match *option {
                "sync" => self.sync = true,
                "nosync" => self.nosync = true,
                _ => {
                    let value = number(options.next().ok_or(EINVAL)?)?;
                    self.valued_option(option, value)?;
                }
            }
        }
        Ok(())
    }

    fn valued_option(&mut self, option: &str, value: u64) -> Result<(), Errno> {
        let slot = || usize::try_from(value).ok().filter(|slot| *slot < self.devices.len()).ok_or(EINVAL);
        let word = match option {
            "rebuild" => {
                let slot = slot()?;
                self.rebuild.push(slot);
                return Ok(());
            }
            "write_mostly" => {
                let slot = slot()?;
                self.write_mostly.push(slot);
                return Ok(());
            }
            "region_size" => {
                self.region = value;
                "region_size"
            }
            "max_recovery_rate" => {
                self.max_recovery_rate = Some(value);
                "max_recovery_rate"
            }
            "min_recovery_rate" => "min_recovery_rate",
            "daemon_sleep" => "daemon_sleep",
            "max_write_behind" => "max_write_behind",
            _ => return Err(EINVAL),
        };
        if self.valued.iter().any(|(known, _)| *known == word) {
            return Err(EINVAL);
        }
        self.valued.push((word, value));
        Ok(())
    }

    fn check(&self, len: u64) -> Result<(), Errno> {
        let empty = |slot: &usize| self.devices[*slot].is_none();
        let region_fits = self.region.is_power_of_two() && self.region <= len && self.region >= len >> 21;
        let forced = self.sync || self.nosync;
        let all = |slots: &[usize]| slots.len() >= self.devices.len();
        let wrong = !region_fits
            || (self.sync && self.nosync)
            || (forced && !self.rebuild.is_empty())
            || self.rebuild.iter().any(empty)
            || all(&self.rebuild)
            || all(&self.write_mostly);
        if wrong { Err(EINVAL) } else { Ok(()) }
    }

    /// The line as the kernel prints it.
    pub(super) fn render(&self) -> String {
        let mut words = vec!["0".to_owned()];
        for (word, on) in [("sync", self.sync), ("nosync", self.nosync)] {
            if on {
                words.push(word.to_owned());
            }
        }
        let mut slots = |word: &str, slots: &[usize]| {
            let mut slots = slots.to_vec();
            slots.sort_unstable();
            words.extend(slots.iter().flat_map(|slot| [word.to_owned(), slot.to_string()]));
        };
        slots("rebuild", &self.rebuild);
        let valued = |word: &str| self.valued.iter().find(|(known, _)| *known == word);
        let mut tail = Vec::new();
        for word in ["daemon_sleep", "min_recovery_rate", "max_recovery_rate"] {
            tail.extend(
                valued(word).iter().flat_map(|(word, value)| [(*word).to_owned(), value.to_string()]),
            );
        }
        words.append(&mut tail);
        let mut slots = |word: &str, slots: &[usize]| {
            let mut slots = slots.to_vec();
            slots.sort_unstable();
            words.extend(slots.iter().flat_map(|slot| [word.to_owned(), slot.to_string()]));
        };
        slots("write_mostly", &self.write_mostly);
        for word in ["max_write_behind", "region_size"] {
            tail.extend(
                valued(word).iter().flat_map(|(word, value)| [(*word).to_owned(), value.to_string()]),
            );
        }
        words.append(&mut tail);
        let devices: Vec<String> = self
            .devices
            .iter()
            .map(|pair| pair.map_or_else(|| "- -".to_owned(), |(meta, data)| format!("{meta} {data}")))
            .collect();
        format!("raid1 {} {} {} {}", words.len(), words.join(" "), devices.len(), devices.join(" "))
    }
}
