"""Every class against its torch sibling: outputs and losses on the same folder, and folders both ways."""

from array_tests import (
    test_a_torch_folder_gives_the_same_numbers,
    test_a_torch_folder_is_saved_again_bit_for_bit,
    test_folders_copied_out_unedited_are_custom_models,
    test_no_other_framework_here,
    test_torch_loads_what_is_made_here,
)

__all__ = [
    "test_a_torch_folder_gives_the_same_numbers",
    "test_a_torch_folder_is_saved_again_bit_for_bit",
    "test_folders_copied_out_unedited_are_custom_models",
    "test_no_other_framework_here",
    "test_torch_loads_what_is_made_here",
]
