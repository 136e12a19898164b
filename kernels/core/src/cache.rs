//! The sizes of the caches, from which kernels derive their block sizes.

use std::sync::OnceLock;

/// Cache sizes in bytes, as one core sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// First-level data cache of a core.
    pub l1d: usize,
    /// Second-level cache of a core.
    pub l2: usize,
    /// A core's share of the last-level cache; 0 where there is none.
    pub l3: usize,
}

impl Caches {
    /// What is assumed where nothing can be found out: a modest core of recent years.
    pub const DEFAULT: Caches = Caches { l1d: 32 << 10, l2: 512 << 10, l3: 2 << 20 };

    /// The caches of this machine, found once per process: on Linux from `/sys/devices/system/cpu/cpu0/cache`,
    /// elsewhere [`Caches::DEFAULT`].
    pub fn detected() -> Caches {
        static CACHES: OnceLock<Caches> = OnceLock::new();
        *CACHES.get_or_init(|| detect("/sys/devices/system/cpu/cpu0/cache").unwrap_or(Caches::DEFAULT))
    }

    /// Whether so many bytes that a call writes stay in some cache for whoever reads them next. Of a share of the last
    /// level no more than eight second levels count: virtual machines report caches that others use as well.
    pub fn keep(&self, bytes: usize) -> bool {
        bytes < self.l3.clamp(self.l2, self.l2.saturating_mul(8))
    }
}

/// Reads the `indexN` folders of a CPU. None without a first and a second level.
fn detect(folder: &str) -> Option<Caches> {
    let read = |index: usize, file: &str| std::fs::read_to_string(format!("{folder}/index{index}/{file}")).ok();
    // Sizes by level, and how many logical CPUs share each.
    let (mut sizes, mut sharers) = ([0usize; 4], [1usize; 4]);
    for index in 0..16 {
        let Some(kind) = read(index, "type") else { break };
        let level: usize = read(index, "level")?.trim().parse().ok()?;
        if kind.trim() == "Instruction" || level >= sizes.len() {
            continue;
        }
        sizes[level] = parse_size(read(index, "size")?.trim())?;
        sharers[level] = read(index, "shared_cpu_list").as_deref().and_then(count_cpus).unwrap_or(1);
    }
    // The logical CPUs that share a first level are one core.
    let cores = (sharers[3] / sharers[1]).max(1);
    (sizes[1] > 0 && sizes[2] > 0).then_some(Caches { l1d: sizes[1], l2: sizes[2], l3: sizes[3] / cores })
}

/// Bytes of `48K`, `2M`, `64`.
fn parse_size(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// The number of CPUs in a list such as `0-3,8-11`.
fn count_cpus(list: &str) -> Option<usize> {
    list.trim().split(',').try_fold(0usize, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists_parse() {
        assert_eq!(["48K", "2M", "64", "x", "7KK"].map(parse_size), [Some(49152), Some(2 << 20), Some(64), None, None]);
        assert_eq!(["0", "0-3,8-11\n", "3-1", ""].map(count_cpus), [Some(1), Some(8), None, None]);
    }

    #[test]
    fn shares_are_per_core() {
        let folder = std::env::temp_dir().join(format!("gristmill-caches-{}", std::process::id()));
        let caches = [
            ("1", "Data", "48K", "0,8"),
            ("1", "Instruction", "32K", "0,8"),
            ("2", "Unified", "1024K", "0,8"),
            ("3", "Unified", "32M", "0-15"),
        ];
        for (index, (level, kind, size, cpus)) in caches.into_iter().enumerate() {
            let folder = folder.join(format!("index{index}"));
            std::fs::create_dir_all(&folder).unwrap();
            for (file, text) in [("level", level), ("type", kind), ("size", size), ("shared_cpu_list", cpus)] {
                std::fs::write(folder.join(file), format!("{text}\n")).unwrap();
            }
        }
        let found = detect(folder.to_str().unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, Some(Caches { l1d: 48 << 10, l2: 1 << 20, l3: 4 << 20 }));
        assert_eq!(detect("/nonexistent"), None);
    }

    #[test]
    fn shares_of_the_last_level_are_taken_with_care() {
        let keep = |l3, bytes| Caches { l1d: 32 << 10, l2: 1 << 20, l3 }.keep(bytes);
        assert_eq!([4 << 20, (4 << 20) - 1].map(|bytes| keep(4 << 20, bytes)), [false, true]);
        assert_eq!([8 << 20, (8 << 20) - 1].map(|bytes| keep(1 << 30, bytes)), [false, true]);
        assert_eq!([1 << 20, (1 << 20) - 1].map(|bytes| keep(0, bytes)), [false, true]);
    }

    #[test]
    fn detection_gives_usable_sizes() {
        let caches = Caches::detected();
        assert!(caches.l1d >= 4 << 10 && caches.l2 >= caches.l1d, "{caches:?}");
    }
}
