"""What every room uses: checks of what users pass, files, devices, versions."""
