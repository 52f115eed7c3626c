# What `cmake --install` puts where, and the packages that cpack makes of it: a .deb, and an .rpm where rpmbuild is.
include(GNUInstallDirs)
install(TARGETS mkfs.corral fsck.corral mount.corral corral RUNTIME DESTINATION sbin)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/docs/man/ DESTINATION share/man/man8 FILES_MATCHING PATTERN "*.8")
install(FILES ${CMAKE_SOURCE_DIR}/LICENSE DESTINATION share/doc/corral RENAME copyright)
install(FILES ${CMAKE_SOURCE_DIR}/README.md DESTINATION share/doc/corral)
install(DIRECTORY ${CMAKE_SOURCE_DIR}/docs/ DESTINATION share/doc/corral/docs
  FILES_MATCHING PATTERN "*.md" PATTERN man EXCLUDE)
install(FILES ${CMAKE_SOURCE_DIR}/tools/package/corral@.service DESTINATION lib/systemd/system)
# bash-completion looks for a file by the name of the program.
foreach(program corral mkfs.corral fsck.corral mount.corral)
  install(FILES ${CMAKE_SOURCE_DIR}/tools/package/completions/corral.bash
    DESTINATION share/bash-completion/completions RENAME ${program})
endforeach()
install(FILES ${CMAKE_SOURCE_DIR}/tools/package/completions/_corral DESTINATION share/zsh/vendor-completions)

set(CPACK_GENERATOR DEB)
find_program(CORRAL_RPMBUILD rpmbuild)
if(CORRAL_RPMBUILD)
  list(APPEND CPACK_GENERATOR RPM)
endif()
set(CPACK_PACKAGE_NAME corral)
set(CPACK_PACKAGE_CONTACT "Corral developers <corral@localhost.localdomain>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_PACKAGE_DESCRIPTION
"Several machines that see one disk mount one POSIX filesystem on it. The volume is a GFS2 volume; each mount is one
process that is filesystem, lock manager, membership and fencing. No kernel module, no daemon, no configuration file.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "gfs2-utils, tgt")
set(CPACK_RPM_FILE_NAME RPM-DEFAULT)
set(CPACK_RPM_PACKAGE_LICENSE "Apache-2.0")
# Those folders belong to other packages.
set(CPACK_RPM_EXCLUDE_FROM_AUTO_FILELIST_ADDITION /usr/sbin /usr/share/man /usr/share/man/man8 /usr/lib/systemd
  /usr/lib/systemd/system /usr/share/bash-completion /usr/share/bash-completion/completions /usr/share/zsh
  /usr/share/zsh/vendor-completions)
include(CPack)
