"""AutoClasses: from a folder, or a name on the Hub, to the class that its files mean."""
