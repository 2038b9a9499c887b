//! Documents of Idem and their merge.
