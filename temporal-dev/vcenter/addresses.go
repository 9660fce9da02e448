package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// addressFault tells why a host does not start a machine: a MAC address that is static may not be one
// that hosts or vCenters make themselves, unless the machine's options say not to look.
func addressFault(vm *simulator.VirtualMachine) fault {
	number := -1
	for _, device := range vm.Config.Hardware.Device {
		one, ok := device.(types.BaseVirtualEthernetCard)
		if !ok {
			continue
		}
		number++
		card := one.GetVirtualEthernetCard()
		isStatic := card.AddressType == string(types.VirtualEthernetCardMacTypeManual)
		if !isStatic || !isReservedAddress(card.MacAddress) || isUnchecked(vm, number) {
			continue
		}
		return &types.GenericVmConfigFault{Reason: fmt.Sprintf(
			"%s is not an allowed static Ethernet address. It conflicts with VMware reserved MACs.", card.MacAddress,
		)}
	}
	return nil
}

func isReservedAddress(mac string) bool {
	mac = strings.ToLower(mac)
	if rest, ok := strings.CutPrefix(mac, "00:50:56:"); ok {
		fourth, _, _ := strings.Cut(rest, ":")
		n, err := strconv.ParseUint(fourth, 16, 8)
		return err != nil || n > 0x3f
	}
	return strings.HasPrefix(mac, "00:0c:29:") || strings.HasPrefix(mac, "00:05:69:")
}

func isUnchecked(vm *simulator.VirtualMachine, number int) bool {
	key := fmt.Sprintf("ethernet%d.checkMACAddress", number)
	for _, option := range vm.Config.ExtraConfig {
		o := option.GetOptionValue()
		if strings.EqualFold(o.Key, key) {
			return strings.EqualFold(fmt.Sprint(o.Value), "FALSE")
		}
	}
	return false
}
