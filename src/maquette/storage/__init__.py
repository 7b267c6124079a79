"""Files on a disk: saves that are all there or not there, and JSON that is read strictly."""
