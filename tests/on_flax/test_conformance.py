"""Every class of every card keeps what the conformance kit asks."""

from array_tests import one_process, test_every_class_conforms, test_no_other_framework_here

__all__ = ["one_process", "test_every_class_conforms", "test_no_other_framework_here"]
