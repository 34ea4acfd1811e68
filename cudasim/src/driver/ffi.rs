//! Pointers and handles as C passes them.
//!
//! The types here have the layout of what they stand for, can be made by a C caller alone, and are where this trust is
//! spent: a pointer of `cuda.h` is null or valid for what the function is documented to do with it. Everything else in the
//! driver is checked.

use std::ffi::{CStr, c_char, c_void};

use super::error::{CudaError, Result};

/// A pointer to a place for a result.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    /// The place of a test's own variable.
    #[cfg(test)]
    pub fn of(place: *mut T) -> Self {
        Self(place)
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Its address.
    pub fn address(self) -> usize {
        self.0 as usize
    }

    /// Writes the result.
    ///
    /// # Errors
    /// `InvalidValue` where the pointer is null.
    pub fn put(self, value: T) -> Result<()> {
        self.put_at(0, value)
    }

    /// Writes it where the caller wants it.
    pub fn put_if_wanted(self, value: T) {
        // A null pointer says that it is not wanted.
        let _ = self.put(value);
    }

    /// Writes to the array that it points to, which is longer than `index`, as the function's documentation says.
    ///
    /// # Errors
    /// `InvalidValue` where the pointer is null.
    pub fn put_at(self, index: usize, value: T) -> Result<()> {
        if self.0.is_null() {
            return Err(CudaError::InvalidValue);
        }
        // SAFETY: not null, so valid for a write by the caller's contract; C does not promise alignment.
        unsafe { self.0.add(index).write_unaligned(value) };
        Ok(())
    }

    /// The same pointer, for reading.
    pub fn as_in(self) -> In<T> {
        In(self.0.cast_const())
    }

    /// What is there now.
    ///
    /// # Errors
    /// `InvalidValue` where the pointer is null.
    pub fn get(self) -> Result<T>
    where
        T: Copy,
    {
        In(self.0.cast_const()).get()
    }
}

/// A pointer to one argument or an array of them.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T: Copy> In<T> {
    /// A pointer that C keeps as a number.
    pub fn of_address(address: u64) -> Self {
        Self(std::ptr::with_exposed_provenance(address as usize))
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// What it points to.
    ///
    /// # Errors
    /// `InvalidValue` where it is null.
    pub fn get(self) -> Result<T> {
        self.at(0)
    }

    /// An element of the array, which is longer than `index`, as the function's documentation says.
    ///
    /// # Errors
    /// `InvalidValue` where the pointer is null.
    pub fn at(self, index: usize) -> Result<T> {
        if self.0.is_null() {
            return Err(CudaError::InvalidValue);
        }
        // SAFETY: not null, so valid for a read by the caller's contract; C does not promise alignment.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }

    /// The first `count` elements.
    ///
    /// # Errors
    /// `InvalidValue` where the pointer is null and `count` is not 0.
    pub fn list(self, count: usize) -> Result<Vec<T>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if self.0.is_null() {
            return Err(CudaError::InvalidValue);
        }
        let mut list: Vec<T> = Vec::with_capacity(count);
        // SAFETY: not null, so valid for a read of `count` elements by the caller's contract, copied as bytes since C does not promise
        // alignment; the vector has room for them, and all of them are written before its length says so.
        unsafe {
            std::ptr::copy_nonoverlapping(self.0.cast::<u8>(), list.as_mut_ptr().cast::<u8>(), count * size_of::<T>());
            list.set_len(count);
        }
        Ok(list)
    }
}

/// A C string.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Text(*const c_char);

impl Text {
    /// The string.
    ///
    /// # Errors
    /// `InvalidValue` where it is null.
    pub fn get(self) -> Result<String> {
        if self.0.is_null() {
            return Err(CudaError::InvalidValue);
        }
        // SAFETY: not null, so a C string by the caller's contract.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_string_lossy().into_owned())
    }
}

/// Host memory.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPointer(*mut c_void);

// SAFETY: it is an address; who uses it says why it may.
unsafe impl Send for HostPointer {}
// SAFETY: as above.
unsafe impl Sync for HostPointer {}

impl HostPointer {
    /// Of this address.
    pub fn new(address: u64) -> Self {
        Self(std::ptr::with_exposed_provenance_mut(address as usize))
    }

    /// The address.
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The bytes there, now. They are given by a C caller for a transfer of `bytes` bytes.
    pub fn read(self, bytes: usize) -> Vec<u8> {
        let mut copy = vec![0; bytes];
        if bytes > 0 {
            // SAFETY: the caller of the C function promises the range; the copy is as long.
            unsafe { std::ptr::copy_nonoverlapping(self.0.cast(), copy.as_mut_ptr(), bytes) };
        }
        copy
    }

    /// Writes `bytes` there.
    pub fn write(self, bytes: &[u8]) {
        if !bytes.is_empty() {
            // SAFETY: the caller of the C function promises the range.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.cast(), bytes.len()) };
        }
    }

    /// The pointer `bytes` further.
    pub fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_byte_add(bytes as usize))
    }

    /// The raw pointer.
    pub fn raw(self) -> *mut u8 {
        self.0.cast()
    }
}

/// A function of the host that a stream calls, with its argument.
#[derive(Clone, Copy)]
pub struct HostFunction {
    /// The function.
    pub function: extern "C" fn(*mut c_void),
    /// Passed to it.
    pub data: HostPointer,
}

impl HostFunction {
    /// Calls it.
    pub fn call(self) {
        (self.function)(self.data.0);
    }
}

/// An opaque handle: `CUstream`, `CUmodule` and so on are pointers for C and numbers for us, never used twice.
pub type Handle = usize;

/// An address of device memory.
pub type DevicePointer = u64;
