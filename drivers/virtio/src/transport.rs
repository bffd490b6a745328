//! A device on PCI (VirtIO 1.2, section 4.1): what is the same for all kinds of devices.
//!
//! The order of a driver's life (3.1.1): [`Transport::new`], [`Transport::negotiate`] (which resets first), vectors and
//! queues, [`Transport::start`]. The parts of crate `virtio-drivers` work on it too, by its trait `Transport`; that
//! trait knows neither vectors nor refusals, so what a device can refuse is asked by the methods here.

use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport as Parts};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::queue::Layout;
use crate::registers::{Area, Registers};
use crate::{DeviceError, Features};

/// Offsets in the common configuration (VirtIO 1.2, 4.1.4.3).
mod common {
    pub const DEVICE_FEATURE_SELECT: u32 = 0;
    pub const DEVICE_FEATURE: u32 = 4;
    pub const DRIVER_FEATURE_SELECT: u32 = 8;
    pub const DRIVER_FEATURE: u32 = 12;
    pub const CONFIG_VECTOR: u32 = 16;
    pub const QUEUES: u32 = 18;
    pub const STATUS: u32 = 20;
    pub const GENERATION: u32 = 21;
    pub const QUEUE_SELECT: u32 = 22;
    pub const QUEUE_SIZE: u32 = 24;
    pub const QUEUE_VECTOR: u32 = 26;
    pub const QUEUE_ENABLE: u32 = 28;
    pub const QUEUE_NOTIFY: u32 = 30;
    pub const QUEUE_DESCRIPTORS: u32 = 32;
    pub const QUEUE_DRIVER: u32 = 40;
    pub const QUEUE_DEVICE: u32 = 48;
    /// Bytes that must be there.
    pub const BYTES: u32 = 56;
}

/// Queues that a driver can use, at most.
pub const MAX_QUEUES: usize = 16;
/// How often the status is read until a reset counts as failed. A read of a register takes some 100 ns at least.
const RESET_READS: u32 = 1_000_000;
/// How often a configuration that changes meanwhile is read again.
const CONFIG_READS: u32 = 100;
/// "No vector" (VirtIO 1.2, 4.1.5.1.2).
const NO_VECTOR: u16 = 0xffff;
/// A read that nobody answers.
const NOBODY: u8 = 0xff;

/// A device, by its registers.
#[derive(Debug)]
pub struct Transport<R> {
    registers: R,
    device_type: DeviceType,
    /// Where each queue is notified; out of range for queues that are not set up.
    notify: [u32; MAX_QUEUES],
}

impl<R: Registers> Transport<R> {
    /// The device with these registers, and the PCI device identity `device` (0x1040 and on: VirtIO 1.2, 4.1.2).
    pub fn new(registers: R, device: u16) -> Result<Transport<R>, DeviceError> {
        let number = device.wrapping_sub(0x1040);
        let device_type = DeviceType::try_from(number).map_err(|_| DeviceError::WrongType(number))?;
        for (area, least) in [(Area::Common, common::BYTES), (Area::Notify, 2)] {
            if registers.bytes(area) < least {
                return Err(DeviceError::NoRegisters(area));
            }
        }
        Ok(Transport { registers, device_type, notify: [u32::MAX; MAX_QUEUES] })
    }

    /// Resets the device, and waits until it has forgotten everything: from then on it uses no memory.
    pub fn reset(&mut self) -> Result<(), DeviceError> {
        self.notify = [u32::MAX; MAX_QUEUES];
        self.registers.write8(Area::Common, common::STATUS, 0);
        for _ in 0..RESET_READS {
            match self.registers.read8(Area::Common, common::STATUS) {
                0 => return Ok(()),
                NOBODY => return Err(DeviceError::Gone),
                _ => core::hint::spin_loop(),
            }
        }
        Err(DeviceError::NoReset)
    }

    /// Resets the device and agrees on features: those of `wanted` and of [`Features::OURS`] that it offers.
    pub fn negotiate(&mut self, wanted: u64) -> Result<u64, DeviceError> {
        self.reset()?;
        self.set_status(DeviceStatus::ACKNOWLEDGE);
        self.set_status(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER);
        let chosen = self.read_device_features() & (wanted | Features::OURS.bits());
        if !Features::from_bits_retain(chosen).contains(Features::VERSION_1) {
            return Err(self.give_up(DeviceError::Features(chosen)));
        }
        self.write_driver_features(chosen);
        self.set_status(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER | DeviceStatus::FEATURES_OK);
        match self.check() {
            Ok(status) if status.contains(DeviceStatus::FEATURES_OK) => Ok(chosen),
            Ok(_) => Err(self.give_up(DeviceError::Features(chosen))),
            Err(error) => Err(error),
        }
    }

    /// Lets the device begin.
    pub fn start(&mut self) -> Result<(), DeviceError> {
        self.finish_init();
        self.check().map(|_| ())
    }

    /// The device's status, if it is one to go on with. To be looked at when its configuration changes, and when it
    /// is silent for long.
    pub fn check(&self) -> Result<DeviceStatus, DeviceError> {
        let bits = self.registers.read8(Area::Common, common::STATUS);
        let status = self.get_status();
        if bits == NOBODY {
            Err(DeviceError::Gone)
        } else if status.contains(DeviceStatus::DEVICE_NEEDS_RESET) {
            Err(DeviceError::NeedsReset)
        } else {
            Ok(status)
        }
    }

    /// Tells the device that the driver has given it up.
    fn give_up(&mut self, error: DeviceError) -> DeviceError {
        self.set_status(self.get_status() | DeviceStatus::FAILED);
        error
    }

    /// Has changes of the configuration signalled by MSI-X vector `vector`.
    pub fn set_config_vector(&mut self, vector: u16) -> Result<(), DeviceError> {
        self.registers.write16(Area::Common, common::CONFIG_VECTOR, vector);
        match self.registers.read16(Area::Common, common::CONFIG_VECTOR) {
            taken if taken == vector && taken != NO_VECTOR => Ok(()),
            _ => Err(DeviceError::NoVector(u16::MAX)),
        }
    }

    /// How many descriptors queue `queue` can have: a power of two, at most `most`.
    pub fn queue_size(&mut self, queue: u16, most: u16) -> Result<u16, DeviceError> {
        let offered = match queue < self.queues() {
            true => self.max_queue_size(queue) as u16,
            false => 0,
        };
        if offered == 0 || offered > 1 << 15 {
            return Err(DeviceError::NoQueue(queue));
        }
        Ok(1 << offered.min(most).ilog2())
    }

    /// Gives queue `queue` its memory and an MSI-X vector, and puts it into service.
    pub fn set_up_queue(
        &mut self,
        queue: u16,
        layout: &Layout,
        vector: Option<u16>,
    ) -> Result<(), DeviceError> {
        self.select(queue);
        let vector = vector.unwrap_or(NO_VECTOR);
        self.registers.write16(Area::Common, common::QUEUE_VECTOR, vector);
        if self.registers.read16(Area::Common, common::QUEUE_VECTOR) != vector {
            return Err(DeviceError::NoVector(queue));
        }
        let offset = u32::from(self.registers.read16(Area::Common, common::QUEUE_NOTIFY));
        let place = offset.checked_mul(self.registers.notify_multiplier());
        match (place, self.notify.get_mut(usize::from(queue))) {
            (Some(place), Some(notify)) if place <= self.registers.bytes(Area::Notify) - 2 => *notify = place,
            _ => return Err(DeviceError::NoQueue(queue)),
        }
        let Layout { size, descriptors, driver, device } = *layout;
        self.queue_set(queue, u32::from(size), descriptors, driver, device);
        match self.queue_used(queue) {
            true => Ok(()),
            false => Err(DeviceError::NoQueue(queue)),
        }
    }

    /// How many queues the device has; as many as a driver can use, at most.
    pub fn queues(&self) -> u16 {
        match self.registers.read16(Area::Common, common::QUEUES) {
            u16::MAX => 0,
            count => count.min(MAX_QUEUES as u16),
        }
    }

    /// Tells the device to look at queue `queue`.
    #[inline]
    pub fn kick(&self, queue: u16) {
        if let Some(place) = self.notify.get(usize::from(queue)) {
            self.registers.write16(Area::Notify, *place, queue);
        }
    }

    /// Reads of the device's configuration what `read` reads, all of it from one and the same state (VirtIO 1.2,
    /// 2.5.1).
    pub fn config<T>(&self, read: impl Fn(&Config<R>) -> Option<T>) -> Result<T, DeviceError> {
        for _ in 0..CONFIG_READS {
            let before = self.read_config_generation();
            let value = read(&Config(&self.registers));
            if self.read_config_generation() == before {
                return value.ok_or(DeviceError::Configuration);
            }
        }
        Err(DeviceError::Configuration)
    }

    fn select(&self, queue: u16) {
        self.registers.write16(Area::Common, common::QUEUE_SELECT, queue);
    }

    fn write64(&self, offset: u32, value: u64) {
        self.registers.write32(Area::Common, offset, value as u32);
        self.registers.write32(Area::Common, offset + 4, (value >> 32) as u32);
    }
}

/// The configuration of a kind of device. What lies behind its end is `None`.
#[derive(Debug)]
pub struct Config<'r, R>(&'r R);

impl<R: Registers> Config<'_, R> {
    fn reaches(&self, end: u32) -> Option<()> {
        (end <= self.0.bytes(Area::Config)).then_some(())
    }

    /// The byte at `offset`.
    pub fn u8(&self, offset: u32) -> Option<u8> {
        self.reaches(offset + 1)?;
        Some(self.0.read8(Area::Config, offset))
    }

    /// The two bytes at `offset`.
    pub fn u16(&self, offset: u32) -> Option<u16> {
        self.reaches(offset + 2)?;
        Some(self.0.read16(Area::Config, offset))
    }

    /// The four bytes at `offset`.
    pub fn u32(&self, offset: u32) -> Option<u32> {
        self.reaches(offset + 4)?;
        Some(self.0.read32(Area::Config, offset))
    }

    /// The eight bytes at `offset`.
    pub fn u64(&self, offset: u32) -> Option<u64> {
        Some(u64::from(self.u32(offset)?) | u64::from(self.u32(offset + 4)?) << 32)
    }
}

impl<R: Registers> Parts for Transport<R> {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn read_device_features(&mut self) -> u64 {
        let half = |select| {
            self.registers.write32(Area::Common, common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.registers.read32(Area::Common, common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    fn write_driver_features(&mut self, features: u64) {
        for select in [0, 1] {
            self.registers.write32(Area::Common, common::DRIVER_FEATURE_SELECT, select);
            let half = (features >> (32 * select)) as u32;
            self.registers.write32(Area::Common, common::DRIVER_FEATURE, half);
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.select(queue);
        u32::from(self.registers.read16(Area::Common, common::QUEUE_SIZE))
    }

    fn notify(&mut self, queue: u16) {
        self.kick(queue);
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(self.registers.read8(Area::Common, common::STATUS).into())
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.registers.write8(Area::Common, common::STATUS, status.bits() as u8);
    }

    /// Only older devices have one.
    fn set_guest_page_size(&mut self, _: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(&mut self, queue: u16, size: u32, descriptors: u64, driver_area: u64, device_area: u64) {
        self.select(queue);
        self.registers.write16(Area::Common, common::QUEUE_SIZE, size as u16);
        self.write64(common::QUEUE_DESCRIPTORS, descriptors);
        self.write64(common::QUEUE_DRIVER, driver_area);
        self.write64(common::QUEUE_DEVICE, device_area);
        self.registers.write16(Area::Common, common::QUEUE_ENABLE, 1);
    }

    /// Queues of PCI devices go out of service only with the whole device (VirtIO 1.2, 4.1.4.3.2).
    fn queue_unset(&mut self, _: u16) {}

    fn queue_used(&mut self, queue: u16) -> bool {
        self.select(queue);
        self.registers.read16(Area::Common, common::QUEUE_ENABLE) == 1
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::from_bits_truncate(self.registers.read8(Area::Isr, 0).into())
    }

    fn read_config_generation(&self) -> u32 {
        self.registers.read8(Area::Common, common::GENERATION).into()
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> virtio_drivers::Result<T> {
        let end = offset.checked_add(size_of::<T>());
        if end.is_none_or(|end| end > self.registers.bytes(Area::Config) as usize) {
            return Err(virtio_drivers::Error::ConfigSpaceTooSmall);
        }
        let mut value = T::new_zeroed();
        let (registers, offset) = (&self.registers, offset as u32);
        // Each field by its own width (VirtIO 1.2, 4.1.3.1); arrays by bytes.
        match value.as_mut_bytes() {
            field @ [_, _] => field.copy_from_slice(&registers.read16(Area::Config, offset).to_le_bytes()),
            field @ [_, _, _, _] => {
                field.copy_from_slice(&registers.read32(Area::Config, offset).to_le_bytes());
            }
            bytes => {
                for (offset, byte) in (offset..).zip(bytes) {
                    *byte = registers.read8(Area::Config, offset);
                }
            }
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> virtio_drivers::Result<()> {
        let end = offset.checked_add(size_of::<T>());
        if end.is_none_or(|end| end > self.registers.bytes(Area::Config) as usize) {
            return Err(virtio_drivers::Error::ConfigSpaceTooSmall);
        }
        let (registers, offset) = (&self.registers, offset as u32);
        match *value.as_bytes() {
            [low, high] => registers.write16(Area::Config, offset, u16::from_le_bytes([low, high])),
            [a, b, c, d] => registers.write32(Area::Config, offset, u32::from_le_bytes([a, b, c, d])),
            ref bytes => {
                for (offset, byte) in (offset..).zip(bytes) {
                    registers.write8(Area::Config, offset, *byte);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
